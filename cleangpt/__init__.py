"""CleanGPT: a Hydra-configured platform for experiments with small and medium GPTs."""
