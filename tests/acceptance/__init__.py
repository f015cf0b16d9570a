"""The acceptance test on a real cluster with Kubeflow Pipelines: `make test-kubernetes`.

docs/cluster.md says what it needs.

__main__.py    the steps in their order, and the table of what was seen
cluster.py     the cluster, by kubectl and helm
release.py     the chart: installed, upgraded, removed and installed again, with its data
network.py     who reaches whom, probed from pods
studies.py     studies on the cluster, disturbed
train_jobs.py  a study trained by TrainJobs, with Kubeflow Trainer's part played
strikes.py     what is done to a study's pods
retries.py     Argo's settings, as k8s/ changes them
"""
