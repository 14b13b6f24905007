#include "gradients.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace accrue::examples {
namespace {

/// Adds as f32 does, and keeps the first rows of each micro-gradient.
struct Recorder final : Accumulator {
  std::vector<Tensor>& kept;
  int64_t rows;

  Recorder(std::vector<Tensor>& to, int64_t r) : kept(to), rows(r) {}
  std::string_view name() const override { return "recorder"; }
  bool fused() const override { return false; }
  bool whole_micro() const override { return true; }
  double error_bound(int64_t k) const override { return static_cast<double>(k - 1) * 0x1p-24; }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Accumulator::fold(buffer, micro, write);
    const Tensor part = buffer.micro().slice(0, rows);
    Tensor& copy = kept.emplace_back(part.shape(), part.dtype(), part.device());
    launch(part.device(), kernel::Copy{part.in(), copy.out(), Write::set});
    copy = copy.to(Device::cpu());  // formulas of one's own are measured too
  }
};

/// The sources of the library, one after the other.
std::vector<int32_t> own_sources() {
  namespace fs = std::filesystem;
  std::vector<fs::path> paths;
  for (const char* folder : {"core", "autograd", "nn", "optim"})
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(ACCRUE_SOURCES) / folder))
      if (entry.path().extension() == ".h" || entry.path().extension() == ".cpp")
        paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::ostringstream all;
  for (const fs::path& path : paths) all << std::ifstream(path).rdbuf();
  return ByteTokenizer().encode(all.str());
}

Tokens read_tokens(const std::string& path) {
  if (!path.empty()) return Tokens::from_file(path, ByteTokenizer());
  return Tokens(own_sources(), ByteTokenizer().vocabulary());
}

}  // namespace

Gradients drawn_gradients(const std::string& name, const std::string& title, double mean,
                          double deviation, const GradientOptions& options) {
  Gradients result{name, title, {}};
  const Shape shape{options.elements / gradient_columns, gradient_columns};
  const RandomKey key{hash_of(static_cast<uint64_t>(options.seed.value), name)};
  for (int64_t k = 0; k < options.count; ++k) {
    std::vector<float> numbers(options.elements);
    for (int64_t i = 0; i < options.elements; i += 2) {
      const auto bits = key.draw(k, static_cast<uint64_t>(i / 2));
      const auto pair = normal_pair(bits[0], bits[1]);
      for (int64_t j : {0, 1})
        numbers[i + j] =
            static_cast<float>(BFloat16(static_cast<float>(mean + deviation * pair[j])));
    }
    result.micro.push_back(Tensor::of<float>(shape, numbers, Device::cpu()));
  }
  return result;
}

Gradients gpt_gradients(const GradientOptions& o, const Progress& progress) {
  constexpr int64_t training_batch = 16;
  const Tokens tokens = read_tokens(o.data);
  const GptConfig config{
      .layers = 2, .heads = 4, .width = 64, .context = 64, .vocabulary = tokens.vocabulary()};
  Gpt model(config);
  initialize(model, {o.device}, o.seed);
  const Parameters all = parameters(model);
  const auto loss = [&](const TokenBatch& micro) {
    return cross_entropy(model(micro.tokens), micro.targets);
  };
  const auto loader = [&](int64_t batch) {
    return TokenLoader(tokens, {config.context, batch, o.seed, o.device});
  };

  AdamW adam(all, {.lr = 1e-3});
  Cycle training(all);
  TokenLoader training_data = loader(training_batch);
  for (int64_t step = 0; step < o.training_steps; ++step) {
    adam.step(training.run(training_data.next(), {.samples = training_batch}, loss));
    progress("training a GPT", step + 1, o.training_steps);
  }

  Gradients result{"gpt", "micro-gradients of a GPT's feed-forward matrix", {}};
  const std::string name = "transformer.h.0.mlp.c_fc.weight";
  const auto recorder = std::make_shared<Recorder>(result.micro, o.elements / gradient_columns);
  Cycle cycle(all, {.accumulate = {{name, recorder}}, .at_edge = [&](MicroStep done) {
                      progress("recording gradients", done.value, o.count);
                    }});
  const ClosedCycle closed = cycle.run(loader(o.count).next(), {.samples = 1}, loss);
  return result;
}

}  // namespace accrue::examples
