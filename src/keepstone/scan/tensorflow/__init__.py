"""TensorFlow: graphs in SavedModels and alone, and TFLite."""
