// Shapes and how they broadcast.
#include "accrue/core/shape.h"

#include <doctest/doctest.h>

#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;

TEST_CASE("a shape counts elements and indexes from both ends") {
  const Shape shape{2, 3, 4};
  CHECK(shape.elements() == 24);
  CHECK(shape[0] == 2);
  CHECK(shape[-1] == 4);
  CHECK(Shape{}.elements() == 1);
  CHECK(Shape{3, 0}.elements() == 0);
  CHECK(contiguous_strides(shape) == Shape{12, 4, 1});
  CHECK(text(shape) == "[2, 3, 4]");
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
}

TEST_CASE("sizes aligned from the right broadcast where equal or 1") {
  CHECK(broadcast("test", {2, 1, 4}, {3, 1}) == Shape{2, 3, 4});
  CHECK(broadcast("test", {3}, {2, 3}) == Shape{2, 3});
  CHECK(broadcast("test", {}, {2}) == Shape{2});
  CHECK(broadcast("test", {1}, {0}) == Shape{0});
}

TEST_CASE("shapes that do not broadcast are refused with the operation and both of them") {
  const std::string reason = message_of<BadArgument>([] { broadcast("sum", {2, 3}, {2}); });
  CHECK(contains(reason, "[sum]"));
  CHECK(contains(reason, "[2, 3]"));
  CHECK(contains(reason, "[2]"));
  CHECK_THROWS_AS(broadcast("sum", {0}, {2}), BadArgument);
}

TEST_CASE("more than six dimensions are refused") {
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1}), BadArgument);
  Shape shape{1, 1, 1, 1, 1, 1};
  CHECK_THROWS_AS(shape.push_back(1), BadArgument);
}
