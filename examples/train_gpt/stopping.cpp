#include "stopping.h"

#include <atomic>
#include <csignal>

namespace accrue::examples {
namespace {

std::atomic<int> asked{0};  // the signal that came; lock-free, so a handler may write it
static_assert(std::atomic<int>::is_always_lock_free);

constexpr int stop_signals[] = {SIGTERM, SIGINT};

void back_to_default() {
  for (const int one : stop_signals) std::signal(one, SIG_DFL);
}

void ask(int signal) {
  asked = signal;
  back_to_default();  // the second one ends the program
}

}  // namespace

const char* Stopped::name() const { return signal == SIGINT ? "SIGINT" : "SIGTERM"; }

std::optional<Stopped> asked_to_stop() {
  const int signal = asked;
  return signal ? std::optional(Stopped{signal}) : std::nullopt;
}

void stop_if_asked() {
  if (const auto stopped = asked_to_stop()) throw *stopped;
}

StopSignals::StopSignals() {
  asked = 0;
  for (const int one : stop_signals) std::signal(one, ask);
}

StopSignals::~StopSignals() { back_to_default(); }

Saver::Saver(Training& training, Troubles& troubles) : training_(training), troubles_(troubles) {
  if (!training.options.checkpoint.empty()) training.at_edge = [this] { at_edge(); };
}

void Saver::at_edge() {
  stop_if_asked();  // whoever catches it saves
  const Options& o = training_.options;
  if (!o.interval_in_micro_batches) return;
  const int64_t micro_batches = ++edges_ * unit(o) / o.micro_batch;  // an edge may be a granule's
  if (const int64_t due = micro_batches / o.checkpoint_interval; due > saves_) {
    saves_ = due;
    save();
  }
}

void Saver::at_step(bool last) {
  const Options& o = training_.options;
  if (o.checkpoint.empty()) return;
  const bool due =
      !o.interval_in_micro_batches && training_.cycle.index().value % o.checkpoint_interval == 0;
  if (last || due) save();
}

bool Saver::save() {
  return troubles_.watch([this] { training_.save(); });
}

bool Saver::wait() {
  return troubles_.watch([this] { training_.checkpoint.wait(); });
}

bool Saver::save_and_wait() {
  wait();  // what an earlier save failed with is not this one's failure
  return save() && wait();
}

}  // namespace accrue::examples
