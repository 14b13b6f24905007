// The errors as one picture.
#pragma once
#include "measure.h"

namespace accrue::examples {

/// An SVG document: error over K, both logarithmic, one panel for each of the gradients, every line
/// labelled at its end.
std::string plot(const std::vector<Gradients>& gradients, const std::vector<Measured>& measured);

}  // namespace accrue::examples
