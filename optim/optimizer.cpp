#include "accrue/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "accrue/core/kernels.h"
#include "accrue/optim/visit_number.h"

namespace accrue {

Optimizer::Optimizer(Parameters parameters, std::vector<Group> groups, double weight_decay,
                     Schedule lr, double clip, std::vector<std::string> state_names)
    : parameters_(std::move(parameters)),
      groups_(std::move(groups)),
      lr_(std::move(lr)),
      clip_(clip),
      state_names_(std::move(state_names)) {
  require(!parameters_.list.empty(), "[optimizer] expected at least one parameter, got none");
  require(clip_ >= 0, "[optimizer] expected a clip of at least 0 (0: none), got ", clip_);
  groups_.push_back({.pattern = "*"});
  for (Group& group : groups_) {
    if (!group.weight_decay) group.weight_decay = weight_decay;
    const double decay = *group.weight_decay, factor = group.lr_factor;
    require(std::isfinite(decay) && decay >= 0 && std::isfinite(factor) && factor >= 0,
            "[optimizer] expected a finite weight decay and lr_factor of at least 0 for ",
            group.pattern, ", got ", decay, " and ", factor);
  }
  members_.resize(groups_.size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto group = std::ranges::find_if(
        groups_, [&](const Group& one) { return matches(parameter(i).name, one.pattern); });
    members_[group - groups_.begin()].push_back(i);
  }
  const TagScope tag(Tag::optimizer);
  for (size_t which = 0; which < state_names_.size(); ++which) {
    states_.emplace_back();
    for (size_t i = 0; i < parameters_.size(); ++i) {
      require_order(static_cast<bool>(parameter(i).master),
                    "[optimizer] expected initialised parameters; call initialize() first");
      Tensor zero = empty_like(parameter(i).master);
      launch(zero.device(), kernel::Fill{zero.out(), 0});
      states_.back().push_back(zero);
    }
  }
}

void Optimizer::visit(Visitor& part) {
  visit_number(part, "counted", counted_);
  for (size_t which = 0; which < states_.size(); ++which)
    for (size_t i = 0; i < parameters_.size(); ++i)
      part(state_names_[which] + '.' + parameter(i).name, states_[which][i]);
  visit_more(part);
}

void Optimizer::check_counts(bool shares) const {
  require(!shares || !needs_counts(),
          "[optimizer] expected losses with counts for half-lives in counts, got shares; give the "
          "losses their counts, or set beta1 and beta2");
}

bool Optimizer::decays() const {
  return std::ranges::any_of(groups_, [](const Group& g) { return *g.weight_decay != 0; });
}

double Optimizer::rate(Step step) const {
  const double lr = lr_(step);
  require(std::isfinite(lr) && lr >= 0,
          "[step] expected a finite learning rate of at least 0 at step ", step.value, ", got ", lr,
          "; look at its schedule");
  return lr;
}

void Optimizer::update_one(size_t i, In sum, Step step, CycleIndex cycle, double divisor) {
  std::vector<std::optional<In>> sums(parameters_.size());
  sums[i] = sum;
  // No loss scale here, so the divisor is the count; step() will add it to counted_.
  run({step, cycle, 1 / divisor, rate(step), divisor, counted_ + divisor}, sums);
}

Out Optimizer::copy_of(size_t i) const {
  Tensor& copy = parameter(i).copy;
  return copy ? copy.out() : Out();
}

void Optimizer::run(const Update& all, std::span<const std::optional<In>> sums) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<size_t> members;
    std::vector<In> of_members;
    for (size_t i : members_[g]) {
      if (parameter(i).frozen || !sums[i]) continue;  // frozen: not even decayed
      members.push_back(i);
      of_members.push_back(*sums[i]);
    }
    if (members.empty()) continue;
    Update one = all;
    one.lr *= groups_[g].lr_factor;
    update(one, groups_[g], members, of_members);
    for (size_t i : members)
      parameter(i).changed(/*copy_fresh=*/static_cast<bool>(parameter(i).copy));
  }
}

StepReport Optimizer::step(ClosedCycle&& closed) {
  Optimizer* const self[] = {this};
  return accrue::step(std::move(closed), self);
}

namespace {

struct Gathered {
  std::unordered_map<const ParameterState*, std::optional<In>> sum_of;  // none: consumed already
  double norm;                                                          // of the raw sums
};

// One pass over all sums: their norm, which is not finite if any of them is not. Where some were
// consumed before, the norm is not known.
Gathered gather(const ClosedCycle& closed) {
  Gathered result{{}, std::nan("")};
  std::vector<In> sums;
  Device device;
  bool all = true;
  for (const auto& buffer : closed.buffers()) {
    device = buffer->parameter_state()->master.device();
    const In sum = buffer->sum();
    std::optional<In>& entry = result.sum_of[buffer->parameter_state().get()];
    if (!buffer->consumed()) entry = sum;
    all = all && !buffer->consumed() && (sum || !buffer->touched());
    if (sum) sums.push_back(sum);
  }
  if (!all) return result;
  const TagScope tag(Tag::workspace);
  Tensor squares({1}, DType::f64, device);
  launch(device, kernel::Dot{sums, sums, squares.out()});
  result.norm = std::sqrt(squares.item());
  return result;
}

void check_partition(const Gathered& gathered, std::span<Optimizer* const> optimizers) {
  std::unordered_map<const ParameterState*, int> owners;
  for (const Optimizer* optimizer : optimizers)
    for (const auto& one : optimizer->parameters().list) {
      require(++owners[one.get()] == 1, "[step] expected each parameter in one optimizer, got ",
              one->name, " in two; leave it to one");
      require(gathered.sum_of.contains(one.get()) || one->frozen,
              "[step] expected parameters of the cycle, got ", one->name,
              ", which is not; add it to the cycle");
    }
  for (const auto& [parameter, sum] : gathered.sum_of)
    require(owners.contains(parameter) || parameter->frozen,
            "[step] expected each of the cycle's parameters in an optimizer, got ", parameter->name,
            " in none; add it to one, or freeze it");
}

}  // namespace

StepReport step(ClosedCycle&& closed_, std::span<Optimizer* const> optimizers) {
  ClosedCycle closed = std::move(closed_);  // on an exception it is discarded here
  require(!optimizers.empty(), "[step] expected at least one optimizer, got none");
  const Range range(optimizers[0]->parameter(0).master.device(), "step");
  const double clip = optimizers[0]->clip_;
  for (const Optimizer* one : optimizers)
    require(one->clip_ == clip, "[step] expected one clip for all optimizers, got ", clip, " and ",
            one->clip_, "; the norm is taken over all parameters");

  const Gathered gathered = gather(closed);
  check_partition(gathered, optimizers);
  const double count = closed.count(), divisor = closed.divisor(), norm = gathered.norm / divisor;
  // All rates first: a schedule that throws must find the model whole.
  std::vector<double> rates;
  for (const Optimizer* one : optimizers) rates.push_back(one->rate(closed.step()));
  StepReport report{closed.step(), false, closed.mean_loss(), norm, rates[0], count};
  const bool finite = std::isfinite(norm) && std::isfinite(report.mean_loss);
  if (divisor == 0 || (!finite && closed.skips_non_finite())) {
    report.skipped = true;
    std::move(closed).finish(false);
    return report;
  }
  for (const Optimizer* one : optimizers) one->check_counts(closed.is_of_shares());
  const double scale = (clip > 0 && norm > clip ? clip / norm : 1) / divisor;
  for (size_t i = 0; i < optimizers.size(); ++i) {
    Optimizer* optimizer = optimizers[i];
    std::vector<std::optional<In>> sums;
    for (const auto& one : optimizer->parameters().list) {
      const auto found = gathered.sum_of.find(one.get());
      sums.push_back(found == gathered.sum_of.end() ? std::optional(In()) : found->second);
    }
    optimizer->run(
        {closed.step(), closed.index(), scale, rates[i], count, optimizer->counted_ + count}, sums);
    optimizer->counted_ += count;
  }
  ++report.step.value;
  std::move(closed).finish(true);
  return report;
}

}  // namespace accrue
