// Before anything else in files of cuda/: their namespace accrue::cuda gets another name, so that a
// program can hold them beside the library; what core/ declares keeps its own, Device::cuda() too.
#pragma once
#include "accrue/core/kernels.h"
#include "accrue/core/map.h"

#define cuda translated_cuda
