// When a run is saved: at intervals, and when SIGTERM or SIGINT asks it to stop.
#pragma once
#include <optional>
#include <string>

#include "progress.h"
#include "training.h"

namespace accrue::examples {

/// Thrown where a run can be saved, once a signal has asked it to stop.
struct Stopped {
  int signal;
  const char* name() const;
};
/// The signal that came while StopSignals lived.
std::optional<Stopped> asked_to_stop();
/// Throws it.
void stop_if_asked();

/// While it lives, the first SIGTERM or SIGINT only asks to stop; the second ends the program at
/// once, as both do without it.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
};

/// Saves a training run by its options. What cannot be written goes to `troubles`; the training
/// goes on.
class Saver {
 public:
  /// Takes the place of training.at_edge while it lives.
  Saver(Training& training, Troubles& troubles);
  ~Saver() { training_.at_edge = {}; }
  Saver(const Saver&) = delete;

  /// After a step: saves if an interval in steps ends, or if it was the last.
  void at_step(bool last);
  /// Saves now, and waits. Returns whether all is written.
  bool save_and_wait();
  bool wait();

 private:
  void at_edge();
  bool save();

  Training& training_;
  Troubles& troubles_;
  int64_t edges_ = 0, saves_ = 0;  // seen by this process, and saves at them
};

}  // namespace accrue::examples
