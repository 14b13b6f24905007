// Tensors to and from safetensors files; the header's text is safetensors_header.cpp's business.
#include "accrue/core/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "accrue/core/mode.h"
#include "accrue/core/safetensors_header.h"

namespace accrue {

using namespace safetensors;

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  const std::string_view header = header_of(file_.bytes(), path);
  data_ = file_.bytes().subspan(length_bytes + header.size());
  Header parsed = read_header(header, path);
  tensors_ = std::move(parsed.tensors);
  metadata_ = std::move(parsed.metadata);

  for (const auto& [name, info] : tensors_) names_.push_back(name);
  std::ranges::stable_sort(names_, {}, [&](const std::string& name) {
    const SafetensorsInfo& it = tensors_.find(name)->second;
    return std::pair(it.offset, it.bytes);  // empty tensors lie before what begins at the same byte
  });
  size_t end = 0;
  for (const std::string& name : names_) {
    const SafetensorsInfo& it = tensors_.find(name)->second;
    require(it.offset == end && it.bytes <= data_.size() - end, "[safetensors] expected ",
            Quoted(name), " of '", path, "' to begin at byte ", end, " and to end by ",
            data_.size(), ", got ", it.offset, " to ", it.offset + it.bytes, ": ",
            it.offset < end   ? "tensors overlap"
            : it.offset > end ? "there is a hole before it"
                              : "the file is truncated",
            "; try to write it again");
    end += it.bytes;
  }
  require(end == data_.size(), "[safetensors] expected ", end, " bytes of data in '", path,
          "', got ", data_.size(), "; try to write it again");
}

const SafetensorsInfo& SafetensorsFile::info(std::string_view name) const {
  const auto found = tensors_.find(name);
  require(found != tensors_.end(), "[safetensors] expected a tensor of '", file_.path(), "', got ",
          Quoted(name), "; try one of its names()");
  return found->second;
}

std::span<const std::byte> SafetensorsFile::bytes(std::string_view name) const {
  const SafetensorsInfo& it = info(name);
  return data_.subspan(it.offset, it.bytes);
}

DType SafetensorsFile::dtype_of_stored(std::string_view name) const {
  const SafetensorsInfo& it = info(name);
  require(it.dtype.has_value(), "[safetensors] expected F64, F32, BF16, F16, I64, I32 or U8 for ",
          Quoted(name), " of '", file_.path(), "', got ", it.stored, "; try to convert it first");
  return *it.dtype;
}

void SafetensorsFile::load(std::string_view name, Tensor& into) const {
  const DType dtype = dtype_of_stored(name);
  const SafetensorsInfo& it = info(name);
  require(it.shape == into.shape() && dtype == into.dtype(), "[safetensors] expected ",
          into.dtype(), into.shape(), " for ", Quoted(name), " of '", file_.path(), "', got ",
          dtype, it.shape, "; try a model of the same sizes");
  into.copy_from_host(bytes(name).data());
}

Tensor SafetensorsFile::tensor(std::string_view name, Device device) const {
  Tensor result(info(name).shape, dtype_of_stored(name), device);
  load(name, result);
  return result;
}

// ---- writing

namespace {

const std::byte* data_of(const Tensor& tensor) {
  return static_cast<const std::byte*>(tensor.in().data);
}

NamedTensors in_file_order(NamedTensors tensors) {
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    require(name != metadata_key && tensor &&
                (data_of(tensor) || tensor.elements() == 0 || current_mode() != Mode::run),
            "[safetensors] expected a tensor with memory and a free name, got ", Quoted(name),
            "; try to write outside a dry run");
    require(names.insert(name).second, "[safetensors] expected names that differ, got two of ",
            Quoted(name), "; try to rename one");
  }
  std::ranges::sort(tensors, [](const auto& a, const auto& b) {
    const Format *x = format_of(a.second.dtype()), *y = format_of(b.second.dtype());
    return x != y ? x > y : a.first < b.first;
  });
  return tensors;
}

}  // namespace

SafetensorsImage::SafetensorsImage(NamedTensors tensors,
                                   const std::map<std::string, std::string>& metadata)
    : tensors_(in_file_order(std::move(tensors))) {
  const std::string header = make_header(tensors_, metadata);
  const uint64_t length = header.size();
  head_.assign(reinterpret_cast<const char*>(&length), length_bytes);
  head_ += header;
  bytes_ = head_.size();
  for (const auto& [name, tensor] : tensors_) bytes_ += tensor.bytes();
}

void SafetensorsImage::copy(std::byte* to) const {
  struct Part {
    std::byte* to;
    const std::byte* from;
    size_t bytes;
  };
  constexpr size_t most = size_t{1} << 20;  // bytes of a part: threads share large tensors
  std::vector<Part> parts;
  std::memcpy(to, head_.data(), head_.size());
  to += head_.size();
  for (const auto& [name, tensor] : tensors_) {
    const size_t all = tensor.bytes();
    if (!tensor.is_contiguous() || !tensor.device().on_host())
      tensor.copy_to_host(to);
    else
      for (size_t at = 0; at < all; at += most)
        parts.push_back({to + at, data_of(tensor) + at, std::min(most, all - at)});
    to += all;
  }
#pragma omp parallel for schedule(static) if (bytes_ > most)
  for (size_t i = 0; i < parts.size(); ++i) std::memcpy(parts[i].to, parts[i].from, parts[i].bytes);
}

void SafetensorsImage::pass(const WriteBytes& write) const {
  write(std::as_bytes(std::span(head_)));
  for (const auto& [name, tensor] : tensors_) {
    if (tensor.is_contiguous() && tensor.device().on_host()) {
      write({data_of(tensor), tensor.bytes()});
    } else {
      std::vector<std::byte> bytes(tensor.bytes());
      tensor.copy_to_host(bytes.data());
      write(bytes);
    }
  }
}

void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  require(current_mode() == Mode::run, "[safetensors] expected tensors with memory for '", path,
          "', got a dry run; try to write outside of it");
  const SafetensorsImage image(tensors, metadata);
  write_whole(path, [&](const WriteBytes& write) { image.pass(write); });
}

}  // namespace accrue
