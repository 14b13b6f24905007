#include "dry_run.h"

#include <algorithm>
#include <cstdio>

#include "../json.h"

namespace accrue::examples {

// The same program in a mode in which tensors have sizes but no memory: what it counts is what a
// run will use, by construction.
void dry_run(Options options, const Data& data) {
  const ModeScope dry(Mode::dry);
  if (!options.checkpoint.empty()) options.checkpoint += "/none";  // whatever lies in the folder
  Training training(options, data);
  const bool saves = !options.checkpoint.empty();
  const bool early =
      saves && (options.interval_in_micro_batches || options.checkpoint_interval < options.steps);
  if (saves && options.interval_in_micro_batches) training.at_edge = [&] { training.save(); };
  if (early) training.save();
  training.step();
  // What the first step leaves, and a copy of it for the checkpoint, lie in memory in the second.
  if (early || options.steps > 1) training.step();
  training.validate();
  if (saves) training.save();
  training.sample_text(std::min(options.sample, options.model.context));
  const MemoryUse use = options.device.backend->memory->use(/*dry=*/true);
  for (int tag = 0; tag < tag_count; ++tag)
    std::printf("%-12s %15lld bytes at most\n", std::string(tag_names[tag]).c_str(),
                static_cast<long long>(use.peak[tag]));
  std::printf("%-12s %15lld bytes at most at one moment\n", "together",
              static_cast<long long>(use.peak_total));
  using Json = nlohmann::ordered_json;
  std::printf("%s\n", Json{{"dry_run", true},
                           {"parameters", parameters(training.model).elements()},
                           {"peak_bytes", bytes_by_tag(use)},
                           {"peak_bytes_total", use.peak_total}}
                          .dump()
                          .c_str());
}

}  // namespace accrue::examples
