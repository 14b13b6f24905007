// A GPT trains on memory that the host cannot address, to the bits of `reference`.
#include "remote/training.h"

namespace accrue::test {

TEST_CASE("every accumulator, tier, filter, consumption and dtype: remote has reference's bits") {
  for (const Choice& choice : choices()) {
    INFO(choice.name);
    Training here(Device::reference(), choice), there(remote(), choice);
    CHECK(there.bits() == here.bits());  // initialisation
    for (int i = 0; i < 2; ++i) {
      const StepReport a = here.step(), b = there.step();
      CHECK(b.mean_loss == a.mean_loss);
      CHECK((b.gradient_norm == a.gradient_norm ||
             (std::isnan(a.gradient_norm) && std::isnan(b.gradient_norm))));
      CHECK(b.count == a.count);
      CHECK(b.skipped == a.skipped);
      CHECK(there.cycle.records().back().loss == here.cycle.records().back().loss);
    }
    CHECK(there.bits() == here.bits());
  }
}

TEST_CASE("a cycle reads nothing back but what a filter asks for") {
  const auto reads = [](const Choice& choice) {
    Training training(remote(), choice);
    training.step();  // an accumulator may have to learn
    const TokenBatch batch = training.loader.next();
    const int64_t before = transfers().to_host;
    int64_t last = before;
    const auto size = MicroSize{2};
    for (const TokenBatch& micro : training.cycle.split(batch, size)) {
      MicroScope scope = training.cycle.begin(micro);
      scope.backward(training.loss(micro));
      last = transfers().to_host;
    }
    training.cycle.discard();
    return last - before;
  };
  for (const Choice& choice : choices()) {
    INFO(choice.name);
    const CycleOptions options = [&] {
      Training training(remote(), choice);
      return choice.options(training.optimizer);
    }();
    if (options.filter)
      CHECK(reads(choice) > 0);  // the count counts
    else
      CHECK(reads(choice) == 0);
  }
}

TEST_CASE("a step reads the norm and the totals, once each") {
  Training training(remote(), {"f32", [](AdamW&) { return CycleOptions{}; }, DType::f32, 1});
  const TokenBatch batch = training.loader.next();
  const auto loss = [&](const TokenBatch& micro) { return training.loss(micro); };
  const int64_t before = transfers().to_host;
  training.optimizer.step(training.cycle.run(batch, {.samples = 2}, loss));
  CHECK(transfers().to_host - before == 2);
}

TEST_CASE("sampling, averaged weights and copies between devices: remote has reference's") {
  Training here(Device::reference(), kahan()), there(remote(), kahan());
  here.step(), there.step();
  const auto text_of = [](const Training& one) {
    return sample(one.model, {1, 2}, 12, {.temperature = 0.8, .top_k = 5}, Seed{2});
  };
  CHECK(text_of(there) == text_of(here));
  {
    const EmaScope a(here.ema), b(there.ema);
    CHECK(text_of(there) == text_of(here));
  }
  CHECK(there.bits() == here.bits());
  here.step();
  assign(there.model, here.model);
  CHECK(weight_bits(parameters(there.model)) == weight_bits(parameters(here.model)));
}

TEST_CASE("verify_cycle of a model on remote: the same report") {
  const auto verified = [](Device device) {
    Training training(device, kahan());
    training.step();
    return verify_cycle(training.cycle, training.loader.peek(), {.samples = 2},
                        [&](const TokenBatch& micro) { return training.loss(micro); },
                        {.rules = true});
  };
  const Verification a = verified(Device::reference()), b = verified(remote());
  CHECK(b.exact_loss == a.exact_loss);
  for (size_t i = 0; i < a.parameters.size(); ++i) {
    CHECK(b.parameters[i].relative == a.parameters[i].relative);
    CHECK(b.parameters[i].largest == a.parameters[i].largest);
    CHECK(b.parameters[i].rule == a.parameters[i].rule);
  }
}

}  // namespace accrue::test
