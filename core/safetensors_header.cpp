// Reading trusts nothing: the header comes from outside, and every number in it becomes an address.
#include "accrue/core/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

namespace accrue::safetensors {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little,
              "the format stores little-endian numbers");

constexpr size_t alignment = 8;
constexpr size_t most_header_bytes = 100'000'000;  // the reference implementation's limit

constexpr Format formats[] = {
    {"BOOL", 8, {}},         {"F4", 4, {}},           {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},      {"U8", 8, DType::u8},    {"I8", 8, {}},
    {"F8_E5M2", 8, {}},      {"F8_E4M3", 8, {}},      {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},  {"F8_E5M2FNUZ", 8, {}},  {"I16", 16, {}},
    {"U16", 16, {}},         {"F16", 16, DType::f16}, {"BF16", 16, DType::bf16},
    {"I32", 32, DType::i32}, {"U32", 32, {}},         {"F32", 32, DType::f32},
    {"C64", 64, {}},         {"F64", 64, DType::f64}, {"I64", 64, DType::i64},
    {"U64", 64, {}}};

const Format* format_of(std::string_view name) {
  const auto found = std::ranges::find(formats, name, &Format::name);
  return found == std::end(formats) ? nullptr : found;
}

/// Receives the header's JSON piece by piece and allows only what the format does. No recursion:
/// deep nesting must not exhaust the stack.
class Reader : public nlohmann::json_sax<json> {
 public:
  explicit Reader(const std::string& path) : path_(path) {}

  Header header;

  bool key(string_t& name) override {
    if (place_ == Place::top) {
      const bool again = name == metadata_key ? has_metadata_ : header.tensors.contains(name);
      demand(!again, "one of each name", "two of ", Quoted(name));
      tensor_ = name;
    } else if (place_ == Place::tensor) {
      demand(known_fields.contains(name), "dtype, shape and data_offsets", Quoted(name));
      demand(fields_.insert(name).second, "one of each field", "two of ", Quoted(name));
    } else {
      demand(!header.metadata.contains(name), "one of each key", "two of ", Quoted(name));
    }
    field_ = name;
    return true;
  }
  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::top;
    } else {
      demand(place_ == Place::top, wanted(), "an object");
      place_ = tensor_ == metadata_key ? Place::metadata : Place::tensor;
      has_metadata_ |= place_ == Place::metadata;
      info_ = {};
      offsets_.clear();
      fields_.clear();
    }
    return true;
  }
  bool end_object() override {
    if (place_ == Place::tensor) finish_tensor();
    place_ = place_ == Place::top ? Place::outside : Place::top;
    tensor_.clear();
    return true;
  }
  bool start_array(size_t) override {
    demand(place_ == Place::tensor && field_ != "dtype", wanted(), "an array");
    place_ = field_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }
  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }
  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      header.metadata.emplace(field_, value);
    } else {
      demand(place_ == Place::tensor && field_ == "dtype", wanted(), "a string");
      const Format* format = format_of(value);
      demand(format, "a dtype of the format", Quoted(value));
      info_.stored = value;
      info_.dtype = format->dtype;
    }
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    demand(place_ == Place::shape || place_ == Place::offsets, wanted(), "the number ", value);
    if (place_ == Place::offsets) {
      demand(offsets_.size() < 2, "two data_offsets", "more");
      offsets_.push_back(value);
    } else {
      demand(info_.shape.rank < Shape::max_rank, "at most 6 dimensions", "more");
      demand(value <= most_elements, "a shape that fits 64 bits", "the size ", value);
      info_.shape.push_back(static_cast<int64_t>(value));
    }
    return true;
  }
  bool number_integer(number_integer_t value) override {
    return refuse(text("the number ", value));
  }
  bool number_float(number_float_t, const string_t& digits) override {
    return refuse(text("the number ", digits.substr(0, 40)));
  }
  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a truth value"); }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    demand(false, "a header of JSON", "an error in it near byte ", position);
    return false;
  }

 private:
  enum class Place { outside, top, metadata, tensor, shape, offsets };
  static constexpr uint64_t most_elements = uint64_t{1} << 57;  // times 64 bits fits 64 bits
  inline static const std::set<std::string_view> known_fields{"dtype", "shape", "data_offsets"};

  template <class... Got>
  void demand(bool good, const char* expected, const Got&... got) const {
    require(good, "[safetensors] expected ", expected, " in ", Quoted(tensor_), " of '", path_,
            "', got ", got..., "; try to write the file again");
  }
  bool refuse(const std::string& got) const {
    demand(false, wanted(), got);
    return false;
  }
  const char* wanted() const {
    switch (place_) {
      case Place::outside:
        return "a header that is an object";
      case Place::top:
        return "an object for each name";
      case Place::metadata:
        return "strings";
      case Place::tensor:
        return field_ == "dtype" ? "a string as dtype" : "an array as shape or data_offsets";
      case Place::shape:
        return "sizes that are whole numbers of at least 0";
      case Place::offsets:
        return "offsets that are whole numbers of at least 0";
    }
    return "";
  }
  void finish_tensor() {
    demand(fields_.size() == known_fields.size(), "dtype, shape and data_offsets", "fewer fields");
    demand(offsets_.size() == 2, "two data_offsets", offsets_.size());
    demand(offsets_[0] <= offsets_[1], "data_offsets with begin ≤ end", offsets_[0], " and ",
           offsets_[1]);
    info_.offset = offsets_[0];
    info_.bytes = offsets_[1] - offsets_[0];
    uint64_t elements = 1, span = 1;  // the span counts sizes of 0 as 1: strides are made of it
    for (int64_t size : info_.shape) {
      const uint64_t step = std::max<int64_t>(size, 1);
      demand(step <= most_elements / span, "a shape that fits 64 bits", info_.shape);
      span *= step;
      elements *= size;
    }
    const size_t bits = elements * format_of(info_.stored)->bits;
    demand(bits % 8 == 0 && info_.bytes == bits / 8,
           "data_offsets as far apart as its numbers need", info_.bytes, " bytes for ",
           info_.stored, info_.shape);
    header.tensors.emplace(tensor_, std::move(info_));
  }

  const std::string& path_;
  Place place_ = Place::outside;
  bool has_metadata_ = false;
  std::set<std::string> fields_;
  std::string tensor_, field_;
  SafetensorsInfo info_;
  std::vector<uint64_t> offsets_;
};

}  // namespace

const Format* format_of(DType dtype) {
  return std::ranges::find_if(formats, [=](const Format& it) { return it.dtype == dtype; });
}

std::ostream& operator<<(std::ostream& out, Quoted quoted) {
  constexpr size_t most = 80;
  return out << '\'' << quoted.name.substr(0, most) << (quoted.name.size() > most ? "…'" : "'");
}

std::string_view header_of(std::span<const std::byte> bytes, const std::string& path) {
  require(bytes.size() >= length_bytes, "[safetensors] expected at least ", length_bytes,
          " bytes in '", path, "', got ", bytes.size(),
          "; the file is truncated, try to write it again");
  uint64_t length;
  std::memcpy(&length, bytes.data(), length_bytes);
  require(length <= most_header_bytes, "[safetensors] expected a header of at most ",
          most_header_bytes, " bytes in '", path, "', got ", length, "; is it a safetensors file?");
  require(length <= bytes.size() - length_bytes, "[safetensors] expected a header of ", length,
          " bytes in '", path, "', got ", bytes.size() - length_bytes,
          " bytes; the file is truncated, try to write it again");
  const auto* start = reinterpret_cast<const char*>(bytes.data()) + length_bytes;
  require(length > 0 && *start == '{', "[safetensors] expected a header that begins with '{' in '",
          path, "', got something else; is it a safetensors file?");
  return {start, length};
}

Header read_header(std::string_view header, const std::string& path) {
  Reader reader(path);
  json::sax_parse(header.begin(), header.end(), &reader);
  return std::move(reader.header);
}

std::string make_header(const NamedTensors& tensors,
                        const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  const auto field = [&](std::string_view name, const json& value) {
    header += text(header.size() > 1 ? "," : "", json(name).dump(), ':', value.dump());
  };
  try {
    if (!metadata.empty()) field(metadata_key, metadata);
    size_t begin = 0;
    for (const auto& [name, tensor] : tensors) {
      const size_t end = begin + tensor.bytes();
      const Shape& shape = tensor.shape();
      field(name, {{"dtype", format_of(tensor.dtype())->name},
                   {"shape", std::vector<int64_t>(shape.begin(), shape.end())},
                   {"data_offsets", {begin, end}}});
      begin = end;
    }
  } catch (const json::exception& error) {
    throw BadArgument(text("[safetensors] expected names and metadata in UTF-8, got: ",
                           error.what(), "; try plain letters"));
  }
  header += '}';
  header.append((alignment - header.size() % alignment) % alignment, ' ');
  require(header.size() <= most_header_bytes, "[safetensors] expected a header of at most ",
          most_header_bytes, " bytes, got ", header.size(), "; try fewer tensors or less metadata");
  return header;
}

}  // namespace accrue::safetensors
