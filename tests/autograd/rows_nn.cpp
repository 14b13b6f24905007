// Rows of nn/functional.h.
#include "autograd/operation.h"

namespace accrue::test {
namespace {

using Ins = std::span<const Var>;
const RandomSite site{"site", Seed{7}};

OperationCase attention(const std::string& name, int64_t length, double p) {
  return {name,
          {{{2, length, 24}}},
          [p](Ins in, Where) { return causal_attention(in[0], 2, p, site); },
          length + 4};
}

OperationRow embedding_row() {
  return {"embedding(table, ids)",
          {{"an id that comes back",
            {{{7, 3}, true}},
            [](Ins in, Where where) {
              return embedding(in[0], ids_of({2, 3}, {4, 0, 4, 6, 4, 1}, where.device));
            }},
           {"two lookups in one table", {{{5, 3}, true}}, [](Ins in, Where where) {
              return embedding(in[0], ids_of({2}, {4, 0}, where.device)) +
                     embedding(in[0], ids_of({2}, {1, 0}, where.device));
            }}}};
}

// Loss operations: the count is not differentiated, and tested elsewhere.
OperationCase dense_loss(const std::string& name, std::vector<int32_t> targets) {
  return {name, {{{2, 3, 7}, false, 2}}, [targets](Ins in, Where where) {
            return cross_entropy(in[0], ids_of({2, 3}, targets, where.device)).sum();
          }};
}

OperationCase chunked(const std::string& name, int64_t chunk, std::vector<int32_t> targets) {
  return {name, {{{2, 3, 4}}, {{7, 4}, true}}, [=](Ins in, Where where) {
            const Tensor ids = ids_of({2, 3}, targets, where.device);
            return cross_entropy(in[0], in[1], ids, -100, chunk).sum();
          }};
}

}  // namespace

std::vector<OperationRow> neural_rows() {
  const std::vector<OperationInput> layer{{{2, 3, 5}}, {{5}, true}, {{5}, true}};
  const std::vector<OperationInput> rms{{{2, 3, 5}}, {{5}, true}};
  const std::vector<OperationInput> add_layer{{{2, 3, 5}}, {{2, 3, 5}}, {{5}, true}, {{5}, true}};
  const std::vector<OperationInput> add_rms{{{2, 3, 5}}, {{2, 3, 5}}, {{5}, true}};
  const auto product = [](const SumAndNorm& both) { return both.sum * both.norm; };
  return {
      {"layer_norm(x, gamma, beta, epsilon)",
       {{"default epsilon", layer, [](Ins in, Where) { return layer_norm(in[0], in[1], in[2]); }},
        {"large epsilon", layer,
         [](Ins in, Where) { return layer_norm(in[0], in[1], in[2], 0.5); }}}},
      {"rms_norm(x, gamma, epsilon)",
       {{"default epsilon", rms, [](Ins in, Where) { return rms_norm(in[0], in[1]); }},
        {"large epsilon", rms, [](Ins in, Where) { return rms_norm(in[0], in[1], 0.5); }}}},
      {"add_layer_norm(x, branch, gamma, beta, epsilon)",
       {{"sum and norm", add_layer,
         [=](Ins in, Where) { return product(add_layer_norm(in[0], in[1], in[2], in[3])); }},
        {"norm alone", add_layer,
         [](Ins in, Where) { return add_layer_norm(in[0], in[1], in[2], in[3], 0.5).norm; }},
        {"sum alone",
         {{{2, 3, 5}}, {{2, 3, 5}}},
         [](Ins in, Where where) {
           const Var gain = Tensor({5}, where.dtype, where.device);
           return add_layer_norm(in[0], in[1], gain, gain).sum;
         }}}},
      {"add_rms_norm(x, branch, gamma, epsilon)",
       {{"sum and norm", add_rms,
         [=](Ins in, Where) { return product(add_rms_norm(in[0], in[1], in[2])); }},
        {"norm alone", add_rms,
         [](Ins in, Where) { return add_rms_norm(in[0], in[1], in[2], 0.5).norm; }}}},
      embedding_row(),
      {"gelu_mlp(x, fc, fc_bias, proj, proj_bias)",
       {{"rows of rows",
         {{{2, 3, 4}}, {{4, 7}, true}, {{7}, true}, {{7, 5}, true}, {{5}, true}},
         [](Ins in, Where) { return gelu_mlp(in[0], in[1], in[2], in[3], in[4]); }},
        {"whole tiles",
         {{{64, 32}}, {{32, 64}, true}, {{64}, true}, {{64, 32}, true}, {{32}, true}},
         [](Ins in, Where) { return gelu_mlp(in[0], in[1], in[2], in[3], in[4]); }}}},
      {"dropout(x, p, site)",
       {{"each row a sample",
         {{{2, 3, 5}}},
         [](Ins in, Where) { return dropout(in[0], 0.4, site); }},
        {"rows of a sample, twice",
         {{{4, 5}}},
         [](Ins in, Where) { return dropout(dropout(in[0], 0.2, site), 0.3, site); }},
        {"off", {{{2, 5}}}, [](Ins in, Where) { return dropout(in[0], 0, site) * in[0]; }}}},
      {"causal_attention(qkv, heads, p, site)",
       {attention("one position", 1, 0), attention("five positions", 5, 0),
        attention("with dropout", 5, 0.3)}},
      {"rope(qkv, heads, base)",
       {{"default base", {{{2, 3, 24}}}, [](Ins in, Where) { return rope(in[0], 2); }},
        {"small base", {{{2, 3, 24}}}, [](Ins in, Where) { return rope(in[0], 1, 10); }}}},
  };
}

std::vector<OperationRow> loss_rows() {
  return {
      {"cross_entropy(logits, targets, ignore)",
       {dense_loss("all count", {1, 0, 6, 3, 3, 2}),
        dense_loss("some are ignored", {1, -100, 6, -100, 3, 2}),
        dense_loss("none counts", {-100, -100, -100, -100, -100, -100})}},
      {"cross_entropy(hidden, head, targets, ignore, chunk)",
       {chunked("one chunk", 6, {1, 0, 6, 3, 3, 2}),
        chunked("several chunks, the last smaller", 4, {1, 0, 6, 3, 3, 2}),
        chunked("one row each", 1, {1, 0, 6, 3, 3, 2}),
        chunked("a chunk in which none counts", 2, {1, 2, -100, -100, 3, -100}),
        {"a hidden state that comes back",
         {{{4, 3}}, {{5, 3}, true}},
         [](Ins in, Where where) {
           const Tensor ids = ids_of({4}, {1, 0, 4, 3}, where.device);
           return cross_entropy(in[0], in[1], ids, -100, 3).sum() + sum(in[0] * in[0]);
         }}}},
      {"mean_squared_error(x, target)",
       {{"odd sizes",
         {{{3, 5}}},
         [](Ins in, Where where) {
           return mean_squared_error(in[0], random_tensor({3, 5}, where, 99)).sum();
         }}}},
  };
}

}  // namespace accrue::test
