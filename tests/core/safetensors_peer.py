"""Reads a file that accrue wrote, or writes one for accrue, with the safetensors package itself.

Called by safetensors_peer.cpp, which holds the same numbers:  safetensors_peer.py read|write FILE
"""

import sys

import numpy as np
import safetensors
import safetensors.numpy

METADATA = {"maker": "peer", "größe": 'a "quoted"\nline'}
ARRAYS = {
    "f32": np.array([[1.0, -2.5, 3.0], [0.0, 1e-30, -7.0]], np.float32),
    "f64": np.array([1e300, -0.1], np.float64),
    "f16": np.array([65504, -(2**-24), -np.inf], np.float16),
    "i32": np.array([-(2**31), 2**31 - 1], np.int32),
    "i64": np.array([-(2**63), 2**63 - 1], np.int64),
    "u8": np.arange(5, dtype=np.uint8),
    "scalar": np.array(4.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "wörter/λ": np.array([[1.0], [2.0]], np.float32),
}
BF16 = np.array([0x3FC0, 0xC000, 0x7F80], np.uint16)  # 1.5, -2, infinity


def read(path):
    with open(path, "rb") as file:
        tensors = dict(safetensors.deserialize(file.read()))
    upper = tensors.pop("bf16")
    assert upper["dtype"] == "BF16" and list(upper["shape"]) == [3], upper
    assert bytes(upper["data"]) == BF16.tobytes(), upper
    transposed = np.frombuffer(tensors.pop("transposed")["data"], np.float32)
    assert np.array_equal(transposed.reshape(3, 2), ARRAYS["f32"].T), transposed
    assert set(tensors) == set(ARRAYS), set(tensors)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == METADATA, file.metadata()
        for name, array in ARRAYS.items():
            got = file.get_tensor(name)
            assert got.dtype == array.dtype and got.shape == array.shape, (name, got.dtype, got.shape)
            assert got.tobytes() == array.tobytes(), (name, got)


def write(path):
    arrays = dict(ARRAYS, truth=np.array([True]))
    safetensors.numpy.save_file(arrays, path, METADATA)
    # NumPy has no bfloat16: the package itself takes its bytes, since 0.8 by their address.
    if hasattr(safetensors, "TensorSpec"):
        upper = safetensors.TensorSpec(dtype="bfloat16", shape=[3], data_ptr=BF16.ctypes.data,
                                       data_len=BF16.nbytes)
    else:
        upper = {"dtype": "bfloat16", "shape": [3], "data": BF16.tobytes()}
    safetensors.serialize_file({"bf16": upper}, path + "-bf16")


{"read": read, "write": write}[sys.argv[1]](sys.argv[2])
