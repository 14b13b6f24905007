// refused: use of deleted function 'Layer::Layer.const
// Copying a layer: its parameters would have two owners.
#include <vector>

#include "accrue/autograd/module.h"

using namespace accrue;

struct Layer {
  Parameter weight{Shape{4, 4}};
  void visit(Visitor& part) { part("weight", weight); }
};

void use(std::vector<Layer>& layers) {
#ifdef MISTAKE
  auto first = layers[0];
#else
  auto& first = layers[0];
#endif
  (void)first;
}
