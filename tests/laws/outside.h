// Accumulators from outside the library: what the laws promise of any accumulator, they promise of
// these.
#pragma once
#include "../../examples/accumulators/flora.h"
#include "../../examples/accumulators/kahan_bf16.h"
#include "../../examples/accumulators/median_of_means.h"
#include "../../examples/accumulators/neumaier.h"
#include "../../examples/accumulators/sign_vote.h"
#include "support.h"

namespace accrue::test {

inline const accumulators::Own& outside() {
  using namespace examples;
  // Two rows of projections: the tests' matrices have some eight columns.
  static const accumulators::Own all{
      std::make_shared<Neumaier>(), std::make_shared<SignVote>(),
      std::make_shared<MedianOfMeans>(4), std::make_shared<Flora>(2, Seed{1}),
      std::make_shared<KahanBf16>(KahanBf16::Reading::high_minus_carry)};
  return all;
}

/// The library's as well.
inline accumulators::Own every_accumulator() {
  accumulators::Own all = accumulators::all();
  all.insert(all.end(), outside().begin(), outside().end());
  return all;
}

}  // namespace accrue::test
