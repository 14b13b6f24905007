// Median of means: the sum where all is well, bounded where fewer than half of the groups are bad.
#include "../../examples/accumulators/median_of_means.h"

#include "sums.h"

namespace accrue::test {
namespace {

using examples::MedianOfMeans;

Numbers median(int64_t groups, const Many& gradients, int64_t known = -1) {
  const auto n = static_cast<int64_t>(gradients[0].size());
  CycleFacts facts;
  facts.micro_batches = known;
  return sum_of(std::make_shared<MedianOfMeans>(groups), {n}, gradients, facts);
}

}  // namespace

TEST_CASE("K times the median of the groups' means, by hand") {
  // Groups of k mod 3: {1, 10}, {2, 20}, {9}; means 5.5, 11, 9; 5 · 9.
  CHECK(median(3, {{1}, {2}, {9}, {10}, {20}}) == Numbers{45});
  // Groups of k mod 4, two in the middle: means 1, 2, 4, 8; 4 · 3.
  CHECK(median(4, {{8}, {1}, {4}, {2}}) == Numbers{12});
  // Fewer micro-batches than groups: the median of those that are there.
  CHECK(median(5, {{7}, {3}, {4}}) == Numbers{12});
}

TEST_CASE("one group is the plain sum, equal gradients are summed exactly") {
  const Many gradients = random_gradients(12, 33, 1);
  CHECK(median(1, gradients) == sum_of(accumulators::f32(), {33}, gradients));
  for (int64_t k : {5, 7, 20}) CHECK(median(5, Many(k, Numbers{0.5, -3}), k)[1] == -3.0 * k);
}

TEST_CASE("fewer than half of the groups cannot move the sum out of the good ones' range") {
  const int64_t groups = 7, k = 28;
  for (double bad : Numbers{1e30, -1e30, INFINITY, NAN})
    for (int64_t spoilt : {1, 3, 4}) {
      CAPTURE(bad);
      CAPTURE(spoilt);
      Many gradients = random_gradients(k, 17, 3);
      Many good(groups, Numbers(17));
      for (int64_t i = 0; i < k; ++i)
        for (size_t j = 0; j < 17; ++j) {
          if (i % groups < spoilt) gradients[i][j] = bad;
          good[i % groups][j] += gradients[i][j];
        }
      const Numbers sum = median(groups, gradients);
      bool bounded = true;
      for (size_t j = 0; j < 17; ++j) {
        double low = INFINITY, high = -INFINITY;
        for (int64_t g = spoilt; g < groups; ++g) {
          low = std::min(low, good[g][j]);
          high = std::max(high, good[g][j]);
        }
        // The groups' sums are rounded at most three times, each below 4; the result once,
        // below 28.
        const double slack = 7 * (3 * 0x1p-22) + 0x1p-19;
        bounded = bounded && sum[j] >= groups * low - slack && sum[j] <= groups * high + slack;
      }
      CHECK(bounded == (spoilt < 4));  // four of seven are no minority
    }
}

TEST_CASE("a parameter that some micro-batches do not touch has zeros there") {
  CycleFacts facts;
  facts.micro_batches = 3;
  OneBuffer one(std::make_shared<MedianOfMeans>(3), {1}, facts);
  one.add(tensor_of({1}, {6}, {Device::cpu(), DType::f32}));
  CHECK(one.finish());  // micro-batches 1 and 2 were without a deposit: median of 6, 0, 0
  CHECK(one.sum() == Numbers{0});
}

TEST_CASE("memory is one sum a group, and the number of groups is checked") {
  CHECK(MedianOfMeans(5).bytes_per_weight(100) == 20);
  for (int64_t groups : {0, -1, 64})
    CHECK(contains(message_of<BadArgument>([&] { MedianOfMeans{groups}; }), "1 to 63"));
}

}  // namespace accrue::test
