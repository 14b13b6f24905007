// The replay of a cycle in f64, long because nothing else needs its parts: tapes are recorded as
// ever, then their leaves and constants are exchanged for f64 ones, and they are run again.
#include "accrue/autograd/verify.h"

#include <cmath>
#include <unordered_map>

#include "accrue/autograd/cycle_state.h"
#include "accrue/autograd/exact_leaf.h"

namespace accrue {
namespace {

// ±1 for each element, keyed by the parameter's name.
Tensor random_signs(const Tensor& like, std::string_view name) {
  Tensor signs = empty_like(like);
  const RandomKey key{hash_of(0, name), 0};
  double* to = signs.data<double>();
  for (int64_t i = 0; i < signs.elements(); ++i)
    to[i] = key.draw(0, static_cast<uint64_t>(i / 4))[i % 4] & 1 ? 1 : -1;
  return signs;
}

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.elements(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
  return sum;
}

// What must not happen while one only looks: optimizer steps in backward, checkpoints.
CycleOptions without_effects(CycleOptions options) {
  options.consume = nullptr;
  options.at_edge = nullptr;
  options.graphs = false;
  return options;
}

Parameters parameters_of(const CycleState& state) {
  Parameters all;
  for (const auto& buffer : state.buffers) all.list.push_back(buffer->parameter_state());
  return all;
}

}  // namespace

class CycleReplay {
 public:
  using Closure = std::function<Loss(int64_t, int64_t)>;
  CycleReplay(const Cycle& cycle, std::span<const int64_t> samples, Closure loss,
              const VerifyOptions& options);
  Verification verify(MicroSize size, int64_t declared);

 private:
  struct Losses {
    double plain = 0, weighed = 0;  // Σ loss; Σ factor·loss, whose gradient the sums are
  };

  static const CycleState& idle(const Cycle& cycle);
  void run_as_ever(MicroSize size, int64_t declared);
  Losses replay();
  Losses replay_whole();
  double replay_one(int64_t first, int64_t count, double factor);
  void widen(Tape& tape);
  Tensor exact(const Tensor& numbers) const;
  std::shared_ptr<Node> exact_leaf(const Node& leaf);
  double bound_of(DType master, const Accumulator& accumulator, int64_t deposits) const;
  ParameterError compare(size_t i) const;
  double rule_error(size_t i, double loss);

  std::span<const int64_t> samples_;
  Closure closure_;
  const VerifyOptions& options_;
  Cycle cycle_;  // one of our own, made like the caller's
  CycleState& state_;
  const CycleIndex index_;
  const double scale_;  // the loss scale: a factor of all sums
  Work work_;
  std::vector<Exact> exact_;
  std::unordered_map<const void*, size_t> parameter_at_;  // by where its working copy lies
  std::vector<Tensor> sums_;                              // of the run as ever, as f64
  Verification result_{};
};

const CycleState& CycleReplay::idle(const Cycle& cycle) {
  const CycleState& state = *cycle.state_;
  require_order(state.phase == CycleState::Phase::idle,
                "[verify_cycle] expected an idle cycle, got one that is ", phase_name(state.phase),
                "; step it or discard it first");
  require_order(current_mode() == Mode::run,
                "[verify_cycle] expected numbers to compare, got a dry run; call it outside");
  for (const auto& buffer : state.buffers)
    require(buffer->accumulator().undoable(),
            "[verify_cycle] expected sums that can be thrown away, got ",
            buffer->accumulator().name(), " for ", buffer->parameter(),
            ", which updates the optimizer at once; try a cycle with f32");
  return state;
}

CycleReplay::CycleReplay(const Cycle& cycle, std::span<const int64_t> samples, Closure loss,
                         const VerifyOptions& options)
    : samples_(samples),
      closure_(std::move(loss)),
      options_(options),
      cycle_(parameters_of(idle(cycle)), without_effects(cycle.state_->options)),
      state_(*cycle_.state_),
      index_(cycle.state_->index),
      scale_(state_.loss_scale()) {
  state_.index = index_;
  const TagScope tag(Tag::gradients);
  for (size_t i = 0; i < state_.buffers.size(); ++i) {
    GradBuffer& ours = *state_.buffers[i];
    for (const std::string& name : ours.accumulator().numbers())
      ours.number(name) = cycle.state_->buffers[i]->number(name);
    const Tensor working = ours.parameter_state()->working();
    parameter_at_[working.in().data] = i;
    Exact& one = exact_.emplace_back();
    one.value = exact(working);
    for (Tensor* sum : {&one.sum, &one.absolute}) {
      *sum = empty_like(one.value);
      launch(options.device, kernel::Fill{sum->out(), 0});
    }
  }
}

// Its sums are copied: an accumulator may free them when the closed cycle is dropped.
void CycleReplay::run_as_ever(MicroSize size, int64_t declared) {
  const ClosedCycle closed = cycle_.run(samples_, size, declared, MicroLoss{closure_});
  for (size_t i = 0; i < exact_.size(); ++i) {
    const TagScope tag(Tag::gradients);
    const GradBuffer& buffer = *closed.buffers()[i];
    Tensor& copy = sums_.emplace_back(empty_like(exact_[i].sum));
    if (buffer.sum()) {
      const Tensor sum = buffer.state("sum").to(options_.device);
      launch(options_.device, kernel::Copy{sum.in(), copy.out(), Write::set});
    } else
      launch(options_.device, kernel::Fill{copy.out(), 0});
  }
  result_.micro_batches = closed.records();
  result_.count = closed.count();
  result_.loss = closed.mean_loss();
}

Tensor CycleReplay::exact(const Tensor& numbers) const {
  const Tensor here = numbers.to(options_.device);
  if (!is_floating(here.dtype())) return here;
  Tensor wide(here.shape(), DType::f64, options_.device);
  launch(options_.device, kernel::Copy{here.in(), wide.out(), Write::set});
  return wide;
}

std::shared_ptr<Node> CycleReplay::exact_leaf(const Node& leaf) {
  const Tensor numbers = leaf.input();
  const auto found = parameter_at_.find(numbers.in().data);
  if (found == parameter_at_.end())
    return std::make_shared<ExactLeaf>(exact(numbers), nullptr, work_);
  Exact& parameter = exact_[found->second];
  return std::make_shared<ExactLeaf>(parameter.value, &parameter, work_);
}

void CycleReplay::widen(Tape& tape) {
  int64_t uses = 0;
  for (int32_t i = 0; i < tape.size(); ++i) {
    OperationNode& node = tape[i];
    node.device = options_.device;
    if (is_floating(node.dtype)) node.dtype = DType::f64;
    for (Input& input : node.inputs()) {
      if (input.kept) input.kept = std::make_unique<const Tensor>(exact(*input.kept));
      if (!input.node || input.node->index >= 0) continue;
      input.node = exact_leaf(*input.node);
      ++uses;
    }
  }
  if (work_.uses == 0) work_.uses = uses;
  result_.operations = std::max<int64_t>(result_.operations, tape.size());
}

double CycleReplay::replay_one(int64_t first, int64_t count, double factor) {
  const auto tape = state_.tape(Tape::Run::again, samples_.subspan(first, count));
  const Loss loss = [&] {
    const TapeScope scope(tape.get());
    return closure_(first, count);
  }();
  const auto& node = loss.sum().node();
  if (!node || node->index < 0) return loss.sum().value().item();  // made of constants alone
  widen(*tape);
  static_cast<OperationNode&>(*node).last_use = tape->size();  // its value is wanted below
  tape->run(0, tape->size(), Tape::Keep::saved);
  const Tensor value = node->input();
  if (work_.deposits) {
    node->pass(Tensor::scalar(factor, DType::f64, options_.device));
    tape->pull(0, tape->size(), Graph::release);
  }
  return value.item();
}

// Operations over the whole cycle need all tapes at once, and then nothing was filtered.
CycleReplay::Losses CycleReplay::replay_whole() {
  std::vector<Cycle::Piece> pieces;
  int64_t first = 0;
  for (const MicroRecord& one : result_.micro_batches) {
    pieces.push_back({first, one.samples});
    first += one.samples;
  }
  cycle_.run_whole(samples_, pieces, MicroLoss{[this](int64_t from, int64_t count) {
                     Loss loss = closure_(from, count);
                     widen(*Tape::current());
                     return loss;
                   }});
  double sum = 0;
  for (const MicroRecord& one : cycle_.records()) sum += one.loss;
  state_.clear();
  return {sum, sum};
}

CycleReplay::Losses CycleReplay::replay() {
  state_.index = index_;  // random numbers are keyed by it; closing advanced it
  if (state_.whole) return replay_whole();
  Losses sum;
  int64_t first = 0;
  for (const MicroRecord& one : result_.micro_batches) {
    if (one.factor != 0) {
      const double loss = replay_one(first, one.samples, one.factor * scale_);
      sum.plain += loss;
      sum.weighed += one.factor * loss;
    }
    first += one.samples;
  }
  return sum;
}

double CycleReplay::bound_of(DType master, const Accumulator& accumulator, int64_t deposits) const {
  if (deposits == 0) return 0;
  if (accumulator.fused()) return accumulator.error_bound(deposits);
  const auto micro_batches = std::min(deposits, static_cast<int64_t>(result_.micro_batches.size()));
  const auto collected = static_cast<double>((deposits - 1) / micro_batches);
  return accumulator.error_bound(micro_batches) +
         collected * (master == DType::f64 ? 0x1p-53 : 0x1p-24);
}

ParameterError CycleReplay::compare(size_t i) const {
  const Exact& one = exact_[i];
  const Tensor& ours = sums_[i];
  double off = 0, largest = 0;
  for (int64_t e = 0; e < ours.elements(); ++e) {
    const double error = std::abs(ours.data<double>()[e] - one.sum.data<double>()[e]);
    off += error * error;
    if (!(error <= largest)) largest = error;  // a NaN is the largest
  }
  const double norm = std::sqrt(dot(one.sum, one.sum));
  const auto over_norm = [norm](double x) { return x == 0 ? 0 : x / norm; };
  const Accumulator& accumulator = state_.buffers[i]->accumulator();
  const double declared =
      bound_of(state_.buffers[i]->parameter_state()->master.dtype(), accumulator, one.deposits);
  return {.name = state_.buffers[i]->parameter(),
          .accumulator = std::string(accumulator.name()),
          .relative = over_norm(std::sqrt(off)),
          .largest = largest / scale_,
          .norm = norm / scale_,
          .deposits = one.deposits,
          .bound = over_norm(declared * std::sqrt(dot(one.absolute, one.absolute))),
          .rule = {}};
}

// Truncation is h² of the loss's third derivative, and rounding u/h; what is called rounding here
// is 128 u of the whole loss, which is far from reached where its terms' errors average out.
double CycleReplay::rule_error(size_t i, double loss) {
  Exact& one = exact_[i];
  const Tensor before = exact(one.value),
               signs = random_signs(before, state_.buffers[i]->parameter());
  const double size = std::sqrt(dot(before, before) / static_cast<double>(before.elements()));
  const double h = 0x1p-15 * (size > 0 ? size : 0x1p-5);
  const auto move = [&](double step) {
    double* to = one.value.data<double>();
    for (int64_t e = 0; e < before.elements(); ++e)
      to[e] = before.data<double>()[e] + step * signs.data<double>()[e];
  };
  move(h);
  const double above = replay().weighed;
  move(-h);
  const double below = replay().weighed, difference = (above - below) / (2 * h);
  move(0);
  const double inner = dot(one.sum, signs) / scale_, noise = 0x1p-46 * std::abs(loss) / h;
  const double error = std::max(std::abs(difference - inner) - noise, 0.0);
  return error == 0 ? 0 : error / std::max(std::abs(difference), std::abs(inner));
}

Verification CycleReplay::verify(MicroSize size, int64_t declared) {
  run_as_ever(size, declared);
  work_.told = options_.progress;
  work_.tapes = static_cast<int64_t>(result_.micro_batches.size());
  if (options_.rules) work_.runs += 2.0 / 3 * static_cast<double>(exact_.size());
  const Losses exact = replay();
  result_.exact_loss = exact.plain / result_.count;
  for (size_t i = 0; i < exact_.size(); ++i) result_.parameters.push_back(compare(i));
  work_.deposits = false;
  for (size_t i = 0; options_.rules && i < exact_.size(); ++i)
    result_.parameters[i].rule = rule_error(i, exact.weighed);
  if (options_.progress) options_.progress(1);
  return std::move(result_);
}

Verification detail::verify_cycle(const Cycle& cycle, std::span<const int64_t> samples,
                                  MicroSize size, int64_t declared,
                                  std::function<Loss(int64_t, int64_t)> loss,
                                  const VerifyOptions& options) {
  return CycleReplay(cycle, samples, std::move(loss), options).verify(size, declared);
}

}  // namespace accrue
