// What calling a kernel does in this thread: run it, only count its bytes, or only work out shapes.
#pragma once
#include <cstdint>

namespace accrue {

enum class Mode : uint8_t {
  run,     // tensors have memory, kernels run
  dry,     // tensors have sizes that are counted, but no memory; kernels say their workspace
  shapes,  // tensors have shapes only; nothing is counted; kernels are not asked
};

Mode current_mode();

class ModeScope {
 public:
  explicit ModeScope(Mode mode);
  ~ModeScope();
  ModeScope(const ModeScope&) = delete;

 private:
  Mode before_;
};

}  // namespace accrue
