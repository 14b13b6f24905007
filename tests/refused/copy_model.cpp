// refused: use of deleted function 'accrue::Gpt::Gpt.const
// Copying a model; assign(to, from) copies the numbers.
#include "accrue/nn/gpt.h"

using namespace accrue;

Gpt use(Gpt& model) {
#ifdef MISTAKE
  Gpt other = model;
#else
  Gpt other = std::move(model);
#endif
  return other;
}
