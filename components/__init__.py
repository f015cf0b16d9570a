"""Kubeflow Pipelines components: each calls one step of the library."""
