"""Pages, plots and diagnoses of runs, data and machines."""
