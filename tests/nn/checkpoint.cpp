// Checkpoints: what is loaded is what was saved, damage is found, misfits change nothing.
#include "accrue/nn/checkpoint.h"

#include <doctest/doctest.h>

#include "accrue/core/error.h"
#include "accrue/core/safetensors.h"
#include "accrue/nn/gpt.h"
#include "accrue/nn/loader.h"
#include "accrue/optim/optimizers.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

namespace {

struct Extras {
  int64_t number = 0;
  std::string words;
  Tensor tensor = Tensor::scalar(0, DType::f64, Device::cpu());
  void visit(Visitor& part) {
    part("number", number);
    part("words", words);
    part("tensor", tensor);
  }
};

/// A run with every kind of part: dropout sites, two moments, a folded accumulator, a position.
struct Run {
  Gpt model;
  AdamW optimizer;
  Cycle cycle;
  TokenLoader loader;
  Extras extras;
  Checkpoint checkpoint;

  static Gpt make(int64_t width, int64_t seed) {
    Gpt model(
        {.layers = 1, .heads = 2, .width = width, .context = 4, .vocabulary = 5, .dropout = 0.2});
    initialize(model, {Device::cpu()}, Seed{seed});
    return model;
  }
  static Tokens tokens() {
    std::vector<int32_t> ids;
    for (int i = 0; i < 200; ++i) ids.push_back(i * i % 5);
    return {ids, 5};
  }

  explicit Run(const std::string& folder, int64_t width = 8, int64_t seed = 1)
      : model(make(width, seed)),
        optimizer(parameters(model), {.lr = 1e-2}),
        cycle(parameters(model), {.accumulate = accumulators::parse("kahan")}),
        loader(tokens(), {.context = 4, .batch = 4, .seed = Seed{3}, .device = Device::cpu()}),
        checkpoint(folder) {
    checkpoint.part("model", model).part("optimizer", optimizer).part("cycle", cycle);
    checkpoint.part("loader", loader).part("extras", extras);
  }
  Loss loss(const TokenBatch& micro) const {
    return cross_entropy(model(micro.tokens), micro.targets);
  }
  void step() {
    optimizer.step(
        cycle.run(loader.next(), {.samples = 3}, [&](const auto& m) { return loss(m); }));
  }
  /// All numbers of all parts, to compare runs to the bit.
  std::vector<double> numbers() {
    std::vector<double> all;
    const auto append = [&](const Tensor& tensor) {
      const std::vector<double> some = tensor.to_vector();
      all.insert(all.end(), some.begin(), some.end());
    };
    Visitor visitor(
        {.parameter = [&](const std::string&, Parameter& part) { append(part.master()); },
         .site = [&](const std::string&,
                     RandomSite& site) { all.push_back(static_cast<double>(site.seed.value)); },
         .tensor = [&](const std::string&, Tensor& part) { append(part); },
         .integer = [&](const std::string&,
                        int64_t& part) { all.push_back(static_cast<double>(part)); },
         .text = [&](const std::string&,
                     std::string& part) { all.insert(all.end(), part.begin(), part.end()); }});
    visitor("model", model), visitor("optimizer", optimizer), visitor("cycle", cycle);
    visitor("loader", loader), visitor("extras", extras);
    return all;
  }
};

void flip_bit(const std::string& path, size_t byte) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(byte));
  const char flipped = static_cast<char>(file.get() ^ 4);
  file.seekp(static_cast<std::streamoff>(byte));
  file.put(flipped);
}

}  // namespace

TEST_CASE("a loaded run has the saved one's bits and goes on with them") {
  const TemporaryFolder folder;
  Run saved(folder.file("run"));
  saved.extras = {-7, "é \"quoted\"\n", Tensor::scalar(1.0 / 3, DType::f64, Device::cpu())};
  saved.step(), saved.step();
  saved.checkpoint.save(saved.cycle.step());

  Run loaded(folder.file("run"), 8, /*seed=*/2);
  CHECK(loaded.numbers() != saved.numbers());
  REQUIRE(loaded.checkpoint.load());
  CHECK(loaded.checkpoint.warnings().empty());
  CHECK(loaded.numbers() == saved.numbers());
  saved.step(), loaded.step();
  CHECK(loaded.numbers() == saved.numbers());
}

TEST_CASE("a cycle saved between two micro-batches goes on with the same bits") {
  const TemporaryFolder folder;
  Run saved(folder.file("run")), loaded(folder.file("run"), 8, /*seed=*/2);
  saved.step();
  const TokenBatch batch = saved.loader.next();
  const std::vector<TokenBatch> micros = saved.cycle.split(batch, {.samples = 2});
  {
    MicroScope scope = saved.cycle.begin(micros[0]);
    scope.backward(saved.loss(micros[0]));
  }
  saved.checkpoint.save(saved.cycle.step());
  REQUIRE(loaded.checkpoint.load());
  CHECK(loaded.cycle.micro_batches() == MicroStep{1});
  for (Run* run : {&saved, &loaded})
    run->optimizer.step(
        run->cycle.run(batch, {.samples = 2}, [&](const auto& micro) { return run->loss(micro); }));
  CHECK(loaded.numbers() == saved.numbers());
}

TEST_CASE("bf16 working copies are made again from the loaded masters") {
  const TemporaryFolder folder;
  Gpt one({.layers = 1, .heads = 2, .width = 8, .context = 4, .vocabulary = 5});
  Gpt other(one.config);
  initialize(one, {Device::cpu(), DType::bf16}, Seed{1});
  initialize(other, {Device::cpu(), DType::bf16}, Seed{2});
  const Tensor ids = Tensor::of<int32_t>({1, 4}, std::vector<int32_t>{0, 1, 2, 3}, Device::cpu());
  CHECK(one(ids).value().to_vector() != other(ids).value().to_vector());
  Checkpoint(folder.file("run")).part("model", one).save(Step{1});
  REQUIRE(Checkpoint(folder.file("run")).part("model", other).load());
  CHECK(one(ids).value().to_vector() == other(ids).value().to_vector());
}

TEST_CASE("the last two files are kept, and an empty folder has none") {
  const TemporaryFolder folder;
  Run run(folder.file("a/b"));
  CHECK_FALSE(run.checkpoint.load());
  CHECK_FALSE(run.checkpoint.exists());
  for (int64_t step : {9, 10, 11}) run.checkpoint.save(Step{step});
  CHECK(run.checkpoint.exists());
  CHECK_FALSE(std::filesystem::exists(folder.file("a/b/step-9.safetensors")));
  CHECK(std::filesystem::exists(folder.file("a/b/step-10.safetensors")));
  CHECK(std::filesystem::exists(folder.file("a/b/step-11.safetensors")));
}

TEST_CASE("a flipped bit anywhere is found, and the file before it is used") {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  run.checkpoint.save(Step{1});
  const std::vector<double> before = run.numbers();
  const std::string path = folder.file("run/step-2.safetensors");
  const auto size = [&] { return std::filesystem::file_size(path); };
  run.extras.number = 1;
  run.checkpoint.save(Step{2});
  const auto bytes = static_cast<size_t>(size());
  std::vector<size_t> places{0, 3, 8, 20, bytes - 1};
  for (size_t at = 9; at < bytes; at += bytes / 97) places.push_back(at);
  for (size_t at : places) {
    CAPTURE(at);
    flip_bit(path, at);
    Run other(folder.file("run"), 8, 2);
    REQUIRE(other.checkpoint.load());
    REQUIRE(other.checkpoint.warnings().size() == 1);
    CHECK(contains(other.checkpoint.warnings()[0], "step-2.safetensors"));
    CHECK(other.numbers() == before);
    flip_bit(path, at);
  }
}

TEST_CASE("a truncated file is found; saving goes on and removes it") {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  run.checkpoint.save(Step{1});
  run.checkpoint.save(Step{5});
  std::filesystem::resize_file(folder.file("run/step-5.safetensors"), 1000);
  REQUIRE(run.checkpoint.load());
  CHECK(run.checkpoint.warnings().size() == 1);
  run.checkpoint.save(Step{2});
  CHECK_FALSE(std::filesystem::exists(folder.file("run/step-5.safetensors")));
  CHECK(std::filesystem::exists(folder.file("run/step-1.safetensors")));
  CHECK(run.checkpoint.load());
  CHECK(run.checkpoint.warnings().empty());
}

TEST_CASE("damage in all files is an error that names them and changes nothing") {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  for (int64_t step : {1, 2}) {
    run.checkpoint.save(Step{step});
    std::filesystem::resize_file(folder.file(text("run/step-", step, ".safetensors")), 4);
  }
  const std::vector<double> before = run.numbers();
  const std::string message = message_of<BadArgument>([&] { run.checkpoint.load(); });
  CHECK(contains(message, "step-1.safetensors"));
  CHECK(contains(message, "step-2.safetensors"));
  CHECK(run.numbers() == before);
}

TEST_CASE("a file of another model is an error that names the part and changes nothing") {
  const TemporaryFolder folder;
  Run narrow(folder.file("run"), 8), wide(folder.file("run"), 16, 2);
  narrow.extras.number = 4;
  narrow.step();
  narrow.checkpoint.save(narrow.cycle.step());
  wide.extras.words = "mine";
  const std::vector<double> before = wide.numbers();
  const std::string message = message_of<BadArgument>([&] { wide.checkpoint.load(); });
  CHECK(contains(message, "expected f32[5, 16] for model.transformer.wte.weight, got F32[5, 8]"));
  CHECK(wide.numbers() == before);

  // Misfits that show only after smaller parts were read: a part too few, a part too many.
  for (const bool missing : {false, true}) {
    Run same(folder.file("run"), 8, 2);
    const std::vector<double> old = same.numbers();
    Checkpoint fewer(folder.file("run"));
    fewer.part("model", same.model).part("cycle", same.cycle).part("loader", same.loader);
    if (missing) {
      fewer.part("optimizer", same.optimizer).part("extras", same.extras);
      fewer.part("more", same.extras);
    }
    CHECK(contains(message_of<BadArgument>([&] { fewer.load(); }),
                   missing ? "more." : "got none for "));
    CHECK(same.numbers() == old);
  }
}

TEST_CASE("a failed save leaves the checkpoint that was there") {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  run.checkpoint.save(Step{1});
  const std::vector<double> before = run.numbers();
  const std::string whole = folder.read("run/step-1.safetensors");
  run.step();
  run.extras.tensor = Tensor();  // nothing to save
  CHECK_THROWS_AS(run.checkpoint.save(Step{1}), BadArgument);
  CHECK(folder.read("run/step-1.safetensors") == whole);
  CHECK_THROWS_AS(run.checkpoint.save(Step{0}), BadOrder);  // would be older than what is there

  folder.write("occupied", "a file");
  Run blocked(folder.file("occupied"));
  CHECK_THROWS_AS(blocked.checkpoint.save(Step{1}), Failure);
  CHECK(folder.read("occupied") == "a file");
}
