// All of accrue, for programs. The library's own files include only what they use.
#pragma once
#include "accrue/autograd/cycle.h"
#include "accrue/autograd/module.h"
#include "accrue/autograd/operations.h"
#include "accrue/autograd/recompute.h"
#include "accrue/autograd/verify.h"
#include "accrue/nn/gpt.h"
#include "accrue/nn/layers.h"
#include "accrue/nn/loader.h"
#include "accrue/optim/consumption.h"
#include "accrue/optim/optimizers.h"
