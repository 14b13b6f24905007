#include "training.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../program.h"
#include "../sha256.h"
#include "accrue/core/file.h"
#include "accrue/core/xxh3.h"
#include "stopping.h"

namespace accrue::examples {
namespace {

Gpt make_model(const Options& options, int64_t vocabulary) {
  GptConfig config = options.model;
  config.vocabulary = vocabulary;
  Gpt model(config);
  initialize(model, {options.device, options.dtype}, options.seed);
  return model;
}

AdamWConfig adamw(const Options& o, const std::shared_ptr<BatchSchedule>& batches,
                  double weight_decay) {
  return {.lr = make_rate(o, batches),
          .beta1 = o.beta1,
          .beta2 = o.beta2,
          .weight_decay = weight_decay,
          .clip = o.clip,
          .beta2_half_life = o.schedules.beta2_half_life};
}

}  // namespace

Data read_data(const Options& options) {
  auto [tokens, tokenizer] = Tokens::from_file(options.data, options.tokenizer);
  const int64_t kept = tokens.size() / 10, needed = options.model.context + 1;
  require(kept >= needed, "[data] expected at least ", 10 * needed, " tokens in '", options.data,
          "', so that a tenth of them makes a sequence, got ", tokens.size(),
          "; try a longer text or a smaller --context");
  const int64_t train = tokens.size() - kept;
  const MappedFile file(options.data);
  return {
      tokenizer, tokens.slice(0, train), tokens.slice(train, kept),
      text("of ", file.bytes().size(), " bytes with checksum ", Xxh3().add(file.bytes()).hex())};
}

void check_choices(const Options& o) {
  // The library's own checks. Names of parameters do not hang on the vocabulary.
  const ModeScope dry(Mode::dry);
  const Gpt model = make_model(o, 2);
  const std::shared_ptr<BatchSchedule> batches = make_batches(o);
  check_micro_batches(o.accumulation, (batches->largest() + unit(o) - 1) / unit(o));
  AdamW matrices(decayed(parameters(model)), adamw(o, batches, o.weight_decay));
  AdamW vectors(parameters(model).except(decayed(parameters(model))), adamw(o, batches, 0));
  try {
    CycleOptions chosen = cycle_options(o.accumulation, o.seed,
                                        loss_scale_for(o.accumulation, o.dtype), matrices, vectors);
    chosen.noise_scale = o.schedules.by == "noise";
    const Cycle cycle(parameters(model), std::move(chosen));
  } catch (const BadArgument& error) {
    throw WrongUsage(in_flags(error.what(), o.accumulation));
  }
  host_allocator().reset_peak(/*dry=*/true);
}

Training::Training(const Options& o, const Data& d)
    : options(o),
      data(d),
      model(make_model(o, d.tokenizer.vocabulary())),
      batches(make_batches(o)),
      matrices(decayed(parameters(model)), adamw(o, batches, o.weight_decay)),
      vectors(parameters(model).except(decayed(parameters(model))), adamw(o, batches, 0)),
      scale(loss_scale_for(o.accumulation, o.dtype)),
      cycle(parameters(model), choices()),
      loader(d.train, {.context = o.model.context,
                       .batch = o.effective_batch,
                       .seed = o.seed,
                       .device = o.device}),
      best(Tensor::scalar(std::numeric_limits<double>::infinity(), DType::f64, o.device)),
      tokenizer(d.tokenizer.save()),
      identity(o.flags, d.digest,
               depends_on_micro_batches(o.accumulation) || !o.schedules.by.empty()),
      checkpoint(o.checkpoint) {
  if (o.schedules.ema > 0) ema.emplace(parameters(model), EmaConfig{.decay = o.schedules.ema});
  checkpoint.part("run", identity)
      .part("model", model)
      .part("matrices", matrices)
      .part("vectors", vectors)
      .part("cycle", cycle)
      .part("loader", loader)
      .part("best_val_loss", best)
      .part("batch", *batches)
      .part("noise_scale", noise)
      .part("ema", ema)
      .part("tokenizer", tokenizer)
      .part("unlogged", unlogged);
}

CycleOptions Training::choices() {
  CycleOptions chosen = cycle_options(options.accumulation, options.seed, scale, matrices, vectors);
  chosen.noise_scale = options.schedules.by == "noise";
  chosen.graphs = options.device.backend->graphs != nullptr;
  chosen.at_edge = [this](MicroStep done) {
    if (told)
      told("step", static_cast<double>(done.value * unit(options)) / static_cast<double>(batch()));
    if (at_edge) at_edge();
  };
  return chosen;
}

// A small vocabulary's logits are few beside the blocks' activations, so they may exist whole: this
// and the form that takes hidden states and head in chunks need the same time, measured for 65 and
// 256 tokens.
Loss Training::loss(const TokenBatch& batch) const {
  return cross_entropy(model(batch.tokens), batch.targets);
}

int64_t Training::batch() const {
  return current_mode() == Mode::dry ? batches->largest() : (*batches)(cycle.step());
}

std::optional<double> Training::noise_scale() const {
  const std::optional<double> tokens = noise.value();
  if (!tokens) return std::nullopt;
  return *tokens / static_cast<double>(options.model.context);
}

StepReport Training::try_step() {
  // The loader stays before the batch while its cycle is under way: so a checkpoint from within
  // leads to it again.
  loader.set_batch(batch());
  const TokenBatch batch = loader.peek();
  const auto all = static_cast<int64_t>(batch.indices.size());
  const int64_t done = std::min(all, cycle.micro_batches().value * unit(options));
  ClosedCycle closed = cycle.run(batch, {.samples = options.micro_batch},
                                 [this](const TokenBatch& micro) { return loss(micro); });
  samples += all - done;
  const std::optional<Prefix> prefix = closed.prefix();
  const StepReport report = accrue::step(std::move(closed), matrices, vectors);
  loader.skip();
  const bool lost = report.skipped && !(scale && scale->value() > 1);
  lost_in_a_row = lost ? lost_in_a_row + 1 : 0;
  if (ema) ema->update(report);
  noise.update(prefix, report);
  if (const auto known = noise_scale(); known && !report.skipped)
    batches->noise_seen(report.step, *known);
  return report;
}

bool Training::hopeless() const {
  return lost_in_a_row >= (options.accumulation.filter == "drop-non-finite" ? 10 : 1);
}

StepReport Training::step() {
  const StepReport report = try_step();
  if (hopeless())
    throw Failure(
        text("[train_gpt] expected a finite loss and gradient in step ", report.step.value + 1,
             ", got ", report.mean_loss, " and ", report.gradient_norm,
             lost_in_a_row > 1 ? text(" as in the ", lost_in_a_row - 1, " cycles before") : "",
             "; nothing was changed; try a new run with a smaller --lr",
             options.accumulation.filter.empty() ? ", or with --filter drop-non-finite" : ""));
  return report;
}

double Training::validation_loss() const {
  const int64_t context = options.model.context, all = windows(data.validation, context);
  // Which windows are read must not depend on how many are computed at a time.
  const int64_t size = options.effective_batch, batches = (all + size - 1) / size;
  const int64_t wanted =
      options.eval_batches == 0 ? batches : std::min(options.eval_batches, batches);
  Tensor sums({2}, DType::f64, options.device);  // Σ loss, Σ count: read once
  launch(options.device, kernel::Fill{sums.out(), 0});
  for (int64_t i = 0; i < wanted; ++i) {
    const int64_t first = i * batches / wanted * size, length = std::min(size, all - first);
    const TokenBatch batch = window_batch(data.validation, first, length, context, options.device);
    for (int64_t at = 0; at < length; at += unit(options)) {
      stop_if_asked();
      const Loss part = loss(batch.slice(at, std::min(unit(options), length - at)));
      if (told)
        told("validation", (static_cast<double>(i) + static_cast<double>(at) / size) / wanted);
      const Tensor both[] = {part.sum().value(), part.count()};
      for (int64_t j : {0, 1})
        launch(options.device, kernel::Copy{both[j].in(), sums.slice(j, 1).out(), Write::add});
    }
  }
  const std::vector<double> read = sums.to_vector();
  return read[0] / read[1];
}

Validation Training::validate() {
  Validation result{validation_loss(), {}};
  if (ema) {
    const EmaScope scope(*ema);
    result.averaged = validation_loss();
  }
  // Both are done: whoever is stopped before validates again.
  launch(best.device(), kernel::Fill{best.out(), std::min(best.item(), result.loss)});
  // Losses rise and stand still while the rate warms up: no plateau yet.
  if (cycle.step().value >= options.warmup) batches->validation_seen(result.loss);
  return result;
}

void Training::require_loss(const Validation& validation) const {
  if (std::isfinite(validation.loss) || !options.accumulation.skip_non_finite) return;
  throw Failure(text("[train_gpt] expected a finite validation loss after step ",
                     cycle.step().value, ", got ", validation.loss,
                     "; try a new run with a smaller --lr"));
}

void Training::resume() {
  require(checkpoint.load(), "[resume] expected a checkpoint in '", options.checkpoint,
          "', got none; try to start without --resume");
}

std::string Training::sample_text(int64_t count) const {
  const int32_t newline = std::max(data.tokenizer.find(U'\n'), 0);
  std::vector<int32_t> ids =
      accrue::sample(model, {newline}, count,
                     {.temperature = options.temperature, .top_k = options.top_k}, options.seed);
  return data.tokenizer.decode(std::span(ids).subspan(1));
}

std::string Training::weights_sha256() const {
  Sha256 hash;
  for (const auto& one : parameters(model).list) {
    std::vector<std::byte> bytes(one->master.bytes());
    one->master.copy_to_host(bytes.data());
    hash.add(bytes);
  }
  return hash.hex();
}

}  // namespace accrue::examples
