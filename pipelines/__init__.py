"""Kubeflow pipelines of Playscale."""
