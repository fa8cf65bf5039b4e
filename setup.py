"""The part of the build that pyproject.toml cannot say: the CFFI module and its ABI tag."""

from setuptools import setup

setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
