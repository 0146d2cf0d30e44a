"""Gradient-boosted trees: XGBoost, LightGBM, CatBoost."""
