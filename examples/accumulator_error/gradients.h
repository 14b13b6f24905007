// Micro-gradients to add up: drawn, or recorded from a GPT.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "accrue/accrue.h"

namespace accrue::examples {

/// K micro-gradients of one weight matrix, f32 [rows, columns].
struct Gradients {
  std::string name, title;
  std::vector<Tensor> micro;
};

/// Called with what is being done, and how much of how much of it is done.
using Progress = std::function<void(const char* what, int64_t done, int64_t all)>;

struct GradientOptions {
  int64_t count = 2048, elements = 4096;
  std::string data;  // text for the GPT; empty: a drawn one, always the same
  int64_t training_steps = 100;
  Seed seed{1};
  Device device = Device::cpu();  // of the GPT
};

/// Independent N(mean, deviation²), rounded to bf16. Pure in the seed and the name.
Gradients drawn_gradients(const std::string& name, const std::string& title, double mean,
                          double deviation, const GradientOptions& options);

/// Of the first block's first feed-forward matrix of train_gpt's default model, trained for some
/// steps by its recipe, in one cycle of micro-batches of one sequence; its first rows.
Gradients gpt_gradients(const GradientOptions& options, const Progress& progress);

/// Rows of 512 numbers, as in the GPT's matrix.
constexpr int64_t gradient_columns = 512;

}  // namespace accrue::examples
