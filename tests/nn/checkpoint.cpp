// Checkpoints: what is loaded is what was saved, damage is found, misfits change nothing.
#include <doctest/doctest.h>

#include "accrue/core/error.h"
#include "nn/checkpoint_run.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using testing::Run;
using testing::TemporaryFolder;

TEST_CASE("a loaded run has the saved one's bits and goes on with them") {
  const TemporaryFolder folder;
  Run saved(folder.file("run"));
  saved.extras = {-7, "é \"quoted\"\n", Tensor::scalar(1.0 / 3, DType::f64, Device::cpu())};
  saved.step(), saved.step();
  saved.checkpoint.save(saved.cycle.step());
  saved.checkpoint.wait();

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
  saved.part_of_cycle(2);
  saved.checkpoint.save(saved.cycle.step(), saved.cycle.micro_batches());
  saved.checkpoint.wait();
  CHECK(std::filesystem::exists(folder.file("run/step-1-micro-2.safetensors")));
  REQUIRE(loaded.checkpoint.load());
  CHECK(loaded.cycle.micro_batches() == MicroStep{2});
  for (Run* run : {&saved, &loaded}) run->step();  // the batch is the same one: else it would throw
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
  Checkpoint(folder.file("run")).part("model", one).save(Step{1});  // its end waits
  REQUIRE(Checkpoint(folder.file("run")).part("model", other).load());
  CHECK(one(ids).value().to_vector() == other(ids).value().to_vector());
}

TEST_CASE("the last two files are kept, and an empty folder has none") {
  const TemporaryFolder folder;
  Run run(folder.file("a/b"));
  CHECK_FALSE(run.checkpoint.load());
  CHECK_FALSE(run.checkpoint.exists());
  for (int64_t step : {9, 10, 11}) run.save(step);
  CHECK(run.checkpoint.exists());
  CHECK_FALSE(std::filesystem::exists(folder.file("a/b/step-9.safetensors")));
  CHECK(std::filesystem::exists(folder.file("a/b/step-10.safetensors")));
  CHECK(std::filesystem::exists(folder.file("a/b/step-11.safetensors")));
}

TEST_CASE("a truncated file is found; saving goes on and removes it") {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  run.save(1);
  run.save(5);
  std::filesystem::resize_file(folder.file("run/step-5.safetensors"), 1000);
  REQUIRE(run.checkpoint.load());
  CHECK(run.checkpoint.warnings().size() == 1);
  run.save(2);
  CHECK_FALSE(std::filesystem::exists(folder.file("run/step-5.safetensors")));
  CHECK(std::filesystem::exists(folder.file("run/step-1.safetensors")));
  CHECK(run.checkpoint.load());
  CHECK(run.checkpoint.warnings().empty());
}

TEST_CASE("damage in all files is an error that names them and changes nothing") {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  for (int64_t step : {1, 2}) {
    run.save(step);
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
  narrow.save(1);
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
