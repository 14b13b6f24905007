"""What tests expect of the CPU that they run on."""
from pathlib import Path


def has_avx512():
    """Of the CPU itself: a DNNL_MAX_CPU_ISA that hides it from oneDNN is not seen."""
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False


def products_ignore_threads():
    """Whether oneDNN's f32 products, of the sizes in these tests, have one order of additions for every
    number of threads: with AVX-512, where tests/laws holds it."""
    return has_avx512()
