"""What `tune` does: Optuna proposes settings, each trial is a run on a device, processes and machines share a study."""
