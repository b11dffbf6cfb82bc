"""C++ and CUDA sources of the native kernels; the loader in ``lgn_lightning.ops`` builds them on first use."""
