// Tensors: numbers, views that share them, and what is refused.
#include "accrue/core/tensor.h"

#include <doctest/doctest.h>

#include <numeric>

#include "accrue/core/mode.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using Numbers = std::vector<double>;

namespace {

/// 0, 1, 2, … in this shape.
Tensor counting(const Shape& shape) {
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  std::iota(values.begin(), values.end(), 0.f);
  return Tensor::of<float>(shape, values, Device::reference());
}

}  // namespace

TEST_CASE("a tensor gives back its numbers, in every dtype") {
  const Device device = Device::reference();
  const auto returns = [&]<class T>(std::vector<T> values) {
    const Tensor tensor = Tensor::of<T>({3}, values, device);
    CHECK(tensor.dtype() == dtype_of<T>);
    CHECK(tensor.bytes() == 3 * sizeof(T));
    CHECK(tensor.to_vector() == Numbers(values.begin(), values.end()));
  };
  returns(std::vector<float>{1.5f, -2, 0});
  returns(std::vector<double>{1e300, -0.1, 0});
  returns(std::vector<BFloat16>{BFloat16(1.5f), BFloat16(-2.f), BFloat16(0.f)});
  returns(std::vector<Float16>{Float16(1.5f), Float16(-2.f), Float16(0.f)});
  returns(std::vector<int32_t>{-(1 << 30), 7, 0});
  returns(std::vector<int64_t>{-(int64_t{1} << 40), 7, 0});
  returns(std::vector<uint8_t>{255, 7, 0});
  CHECK(Tensor::scalar(2.5, DType::f64, device).item() == 2.5);
}

TEST_CASE("a slice is a view of rows or of any other dimension") {
  Tensor tensor = counting({3, 2});
  CHECK(tensor.slice(1, 2).to_vector() == Numbers{2, 3, 4, 5});
  CHECK(tensor.slice(1, 1, 1).to_vector() == Numbers{1, 3, 5});
  CHECK(tensor.slice(-1, 1, 1).to_vector() == Numbers{1, 3, 5});
  CHECK(tensor.slice(2, 1).slice(1, 1, 1).item() == 5);
  CHECK(tensor.slice(3, 0).to_vector().empty());
  CHECK(tensor.slice(1, 2).same_storage(tensor));
  Tensor view = tensor.slice(1, 1);
  *view.data<float>() = 9;
  CHECK(tensor.to_vector() == Numbers{0, 1, 9, 3, 4, 5});
}

TEST_CASE("a slice outside its dimension is refused with range and shape") {
  const Tensor tensor = counting({3, 2});
  CHECK_THROWS_AS(tensor.slice(2, 2), BadArgument);
  CHECK_THROWS_AS(tensor.slice(-1, 1), BadArgument);
  CHECK_THROWS_AS(tensor.slice(0, -1), BadArgument);
  CHECK_THROWS_AS(tensor.slice(2, 0, 1), BadArgument);
  const std::string reason = message_of<BadArgument>([&] { tensor.slice(1, 1, 2); });
  CHECK(contains(reason, "[3, 2]"));
  CHECK(contains(reason, "first 1, count 2"));
}

TEST_CASE("reshape keeps the numbers and finds one open size") {
  const Tensor tensor = counting({2, 6});
  CHECK(tensor.reshape({3, -1}).shape() == Shape{3, 4});
  CHECK(tensor.reshape({3, 4}).to_vector() == tensor.to_vector());
  CHECK(tensor.reshape({12}).same_storage(tensor));
  CHECK(tensor.slice(1, 1).reshape({2, 3}).to_vector() == Numbers{6, 7, 8, 9, 10, 11});
  CHECK_THROWS_AS(tensor.reshape({5, -1}), BadArgument);
  CHECK_THROWS_AS(tensor.reshape({2, 5}), BadArgument);
  CHECK_THROWS_AS(tensor.reshape({-1, -1}), BadArgument);
  CHECK(contains(message_of<BadArgument>([&] { tensor.transpose(0, 1).reshape({12}); }),
                 "contiguous"));
}

TEST_CASE("transpose exchanges two dimensions and moves nothing") {
  const Tensor tensor = counting({2, 3});
  const Tensor turned = tensor.transpose(0, 1);
  CHECK(turned.shape() == Shape{3, 2});
  CHECK(turned.to_vector() == Numbers{0, 3, 1, 4, 2, 5});
  CHECK(turned.same_storage(tensor));
  CHECK_FALSE(turned.is_contiguous());
  CHECK(turned.transpose(-1, -2).is_contiguous());
  CHECK(counting({1, 3}).transpose(0, 1).is_contiguous());  // a size of 1 has any stride
  CHECK(turned.slice(1, 2).to_vector() == Numbers{1, 4, 2, 5});
}

TEST_CASE("squeeze leaves out a dimension of size 1 and refuses any other") {
  const Tensor columns = counting({2, 1, 3}).transpose(0, 2);
  CHECK(columns.squeeze(1).shape() == Shape{3, 2});
  CHECK(columns.squeeze(1).to_vector() == Numbers{0, 3, 1, 4, 2, 5});
  CHECK_THROWS_AS(columns.squeeze(0), BadArgument);
}

TEST_CASE("expand stretches sizes of 1 by strides of 0") {
  const Tensor row = counting({2});
  const Tensor all = row.expand({3, 2});
  CHECK(all.to_vector() == Numbers{0, 1, 0, 1, 0, 1});
  CHECK(all.strides() == Shape{0, 1});
  CHECK(counting({2, 1}).expand({2, 2}).to_vector() == Numbers{0, 0, 1, 1});
  CHECK_THROWS_AS(row.expand({3}), BadArgument);
  CHECK_THROWS_AS(counting({2, 2}).expand({2}), BadArgument);
  CHECK_THROWS_AS(counting({2, 2}).expand({2, 1}), BadArgument);
}

TEST_CASE("impossible tensors are refused") {
  const std::vector<float> two{1, 2};
  CHECK_THROWS_AS(Tensor::of<float>({3}, two, Device::reference()), BadArgument);
  CHECK_THROWS_AS(Tensor({2, -1}, DType::f32, Device::reference()), BadArgument);
  CHECK_THROWS_AS(Tensor({2}, DType::f32, Device{}), BadArgument);
  CHECK_THROWS_AS(counting({2}).item(), BadArgument);
  const std::string reason = message_of<BadArgument>([] { counting({2}).data<double>(); });
  CHECK(contains(reason, "f32"));
  CHECK(contains(reason, "f64"));
}

TEST_CASE("copies are handles: they share the numbers and say how many they are") {
  Tensor first = counting({2});
  CHECK(first.sharers() == 1);
  {
    Tensor second = first;
    *second.data<float>() = 5;
    CHECK(first.sharers() == 2);
  }
  CHECK(first.sharers() == 1);
  CHECK(first.to_vector() == Numbers{5, 1});
  CHECK_FALSE(Tensor().same_storage(Tensor()));
  CHECK_FALSE(bool(Tensor()));
  const Tensor other = empty_like(first);
  CHECK(other.shape() == first.shape());
  CHECK_FALSE(other.same_storage(first));
}

TEST_CASE("a weight's packed layouts stay where they are and are made again after a change") {
  Tensor weight = counting({2});
  CHECK(weight.in().packs == nullptr);
  Packs& packs = weight.keep_packs();
  CHECK(weight.in().packs == &packs);
  CHECK(weight.slice(0, 1).in().packs == nullptr);  // layouts are of the whole weight
  Packs::Entry& made = packs.entry(7, 100, Device::reference());
  CHECK_FALSE(made.valid);
  made.valid = true;
  const void* address = made.data.in().data;
  CHECK(packs.entry(7, 100, Device::reference()).valid);
  packs.entry(8, 100, Device::reference());
  packs.invalidate();
  CHECK_FALSE(packs.entry(7, 100, Device::reference()).valid);
  CHECK(packs.entry(7, 100, Device::reference()).data.in().data == address);
}
