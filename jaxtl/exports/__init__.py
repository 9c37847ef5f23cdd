"""A network as other libraries hold it: Keras, PyTorch, ONNX."""
