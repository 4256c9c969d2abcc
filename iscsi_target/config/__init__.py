"""TOML to frozen values: `tables` reads, `checks` judges, `values` is what the rest of the program sees."""
