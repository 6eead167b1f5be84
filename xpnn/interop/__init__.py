"""Out of xpnn: a trained model as one description of operations (`xpnn.interop.graph`), and what is written from it.

Nothing here is imported before somebody asks for it: `to_onnx` and the other methods (`xpnn.exports.Exports`) do.
"""

__all__: list[str] = []
