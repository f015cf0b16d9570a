"""The train component of runs that are trained by TrainJobs."""
