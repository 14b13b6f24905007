// Rows of autograd/operations.h and of recompute().
#include "autograd/operation.h"

namespace accrue::test {
namespace {

using Ins = std::span<const Var>;

OperationRow unary(const std::string& declaration, Var (*f)(const Var&)) {
  return {declaration,
          {{"odd sizes", {{{3, 5}}}, [f](Ins in, Where) { return f(in[0]); }},
           {"small and large", {{{7}, false, 4}}, [f](Ins in, Where) { return f(in[0]); }}}};
}

template <class F>
OperationRow binary(const std::string& declaration, F f) {
  auto call = [f](Ins in, Where) { return f(in[0], in[1]); };
  return {declaration,
          {{"equal shapes", {{{3, 5}}, {{3, 5}}}, call},
           {"b is a row", {{{2, 3, 5}}, {{5}}}, call},
           {"b is a row of weights", {{{2, 3, 5}}, {{5}, true}}, call},
           {"a is a column", {{{3, 1}}, {{3, 5}}}, call},
           {"both stretch", {{{3, 1, 5}}, {{4, 1}}}, call},
           {"one element", {{{1}}, {{2, 3}}}, call},
           {"with itself", {{{3, 5}}}, [f](Ins in, Where) { return f(in[0], in[0]); }}}};
}

OperationRow reshape_row() {
  return {"reshape(x, shape)",
          {{"open size",
            {{{2, 3, 4}}},
            [](Ins in, Where) {
              return reshape(in[0], {6, -1});
            }},
           {"and used twice", {{{2, 3}}}, [](Ins in, Where) {
              return reshape(in[0], {3, 2}) * reshape(in[0], {3, 2});
            }}}};
}

OperationRow slice_row() {
  return {"slice(x, first, count)",
          {{"middle", {{{5, 3}}}, [](Ins in, Where) { return slice(in[0], 1, 2); }},
           {"first rows of weights",
            {{{5, 3}, true}},
            [](Ins in, Where) { return slice(in[0], 0, 3); }},
           {"overlapping", {{{5, 3}}}, [](Ins in, Where) {
              return slice(in[0], 0, 3) + slice(in[0], 2, 3);
            }}}};
}

OperationRow recompute_row() {
  return {"recompute(part)",
          {{"two operations",
            {{{3, 4}}, {{4, 4}, true}},
            [](Ins in, Where) { return recompute([&] { return gelu(matmul(in[0], in[1])); }); }},
           {"a value used inside and behind",
            {{{3, 4}}},
            [](Ins in, Where) {
              Var inner;
              const Var outer = recompute([&] {
                inner = gelu(in[0]);
                return tanh(inner);
              });
              return outer * inner;
            }},
           {"twice, with dropout", {{{2, 6}}}, [](Ins in, Where) {
              const RandomSite site{"site", Seed{3}};
              Var x = in[0];
              for (int i = 0; i < 2; ++i)
                x = recompute([&] { return x + dropout(silu(x), 0.3, site); });
              return x;
            }}}};
}

}  // namespace

std::vector<OperationRow> plain_rows() {
  const std::vector<OperationInput> product{{{2, 3, 4}}, {{4, 5}, true}};
  const std::vector<OperationInput> transposed{{{2, 3, 4}}, {{5, 4}, true}};
  return {
      binary("operator+(a, b)", [](const Var& a, const Var& b) { return a + b; }),
      binary("operator*(a, b)", [](const Var& a, const Var& b) { return a * b; }),
      {"scale(x, factor)",
       {{"negative", {{{3, 5}}}, [](Ins in, Where) { return scale(in[0], -1.5); }}}},
      {"matmul(x, w)",
       {{"rows of rows", product, [](Ins in, Where) { return matmul(in[0], in[1]); }},
        {"one row", {{{4}}, {{4, 5}, true}}, [](Ins in, Where) { return matmul(in[0], in[1]); }},
        {"w is an activation",
         {{{3, 4}}, {{4, 2}}},
         [](Ins in, Where) { return matmul(in[0], in[1]); }}}},
      {"matmul_transposed(x, w)",
       {{"rows of rows", transposed, [](Ins in, Where) { return matmul_transposed(in[0], in[1]); }},
        {"one w for both",
         {{{3, 4}}, {{4, 4}, true}},
         [](Ins in, Where) { return matmul_transposed(matmul(in[0], in[1]), in[1]); }}}},
      {"linear(x, w, b)",
       {{"rows of rows",
         {{{2, 3, 4}}, {{4, 5}, true}, {{5}, true}},
         [](Ins in, Where) { return linear(in[0], in[1], in[2]); }}}},
      unary("gelu(x)", gelu),
      unary("silu(x)", silu),
      unary("relu(x)", relu),
      unary("tanh(x)", tanh),
      reshape_row(),
      slice_row(),
      {"sum(x)",
       {{"all", {{{3, 5}}}, [](Ins in, Where) { return sum(in[0]); }},
        {"of squares", {{{7}}}, [](Ins in, Where) { return sum(in[0] * in[0]); }}}},
      recompute_row(),
  };
}

}  // namespace accrue::test
