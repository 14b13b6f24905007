#include "accrue/nn/ids.h"

namespace accrue {
namespace {

struct Rule {
  int64_t limit, ignore;
  bool allows(int64_t id) const { return (id >= 0 && id < limit) || (id == ignore && ignore < 0); }
  bool allows(const IdRange& range) const {
    return range.most < limit &&
           (range.least >= 0 || (allows(range.least) && allows(range.most_negative)));
  }
};

}  // namespace

void check_ids(const char* name, const Tensor& ids, int64_t limit, int64_t ignore) {
  if (!ids.in().data || ids.elements() == 0) return;
  const Rule rule{limit, ignore};
  const bool on_host = ids.device().on_host();
  if (const auto range = ids.uploaded(); !on_host && (!range || rule.allows(*range))) return;
  const bool readable = on_host && ids.is_contiguous();
  std::vector<int32_t> copy(readable ? 0 : ids.elements());  // on a device to say which id it is
  if (!readable) ids.copy_to_host(copy.data());
  const int32_t* data = readable ? ids.data<int32_t>() : copy.data();
  for (int64_t i = 0; i < ids.elements(); ++i)
    require(rule.allows(data[i]), "[", name, "] expected ids in [0, ", limit, "), got ", data[i],
            " at position ", i, "; try the vocabulary of their tokenizer");
}

}  // namespace accrue
