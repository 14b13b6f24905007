// Named tensors in a file, in the safetensors format: the u64 little-endian length of a JSON
// header, the header {name: {dtype, shape, data_offsets}, "__metadata__": {string: string}}, the
// numbers.
#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "accrue/core/file.h"
#include "accrue/core/tensor.h"

namespace accrue {

/// What the header says of one tensor.
struct SafetensorsInfo {
  std::string stored;          // the format's name for its dtype, "BF16"
  std::optional<DType> dtype;  // absent where accrue has no such dtype: listed, but not loaded
  Shape shape;
  size_t offset;  // of its first byte after the header
  size_t bytes;
};

/// A safetensors file, mapped into memory. Every claim of the header is checked when it is opened:
/// throws BadArgument, naming the file and the tensor, unless the tensors cover the data exactly.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  /// In the order of their numbers in the file.
  const std::vector<std::string>& names() const { return names_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// All bytes, header included.
  std::span<const std::byte> file() const { return file_.bytes(); }
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  /// Throws BadArgument if there is no tensor of this name.
  const SafetensorsInfo& info(std::string_view name) const;
  /// The numbers as they lie in the file, row-major. Valid as long as this object.
  std::span<const std::byte> bytes(std::string_view name) const;

  /// Sets `into`, of any strides; its shape and dtype must be the file's.
  void load(std::string_view name, Tensor& into) const;
  /// A new tensor with the file's numbers.
  Tensor tensor(std::string_view name, Device device) const;

 private:
  DType dtype_of_stored(std::string_view name) const;

  MappedFile file_;
  std::vector<std::string> names_;
  std::map<std::string, SafetensorsInfo, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
  std::span<const std::byte> data_;
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// The bytes of a file that is yet to be written: its header, and where each tensor goes. Tensors
/// of any strides are stored row-major, wider dtypes first and then by name, as the reference
/// implementation does.
class SafetensorsImage {
 public:
  /// Throws BadArgument on equal names and names that are not UTF-8. In a dry run tensors need no
  /// memory.
  explicit SafetensorsImage(NamedTensors tensors,
                            const std::map<std::string, std::string>& metadata = {});

  size_t bytes() const { return bytes_; }
  /// Copies the whole file to `to`, with all threads. Synchronises.
  void copy(std::byte* to) const;
  /// Hands the file over in order, piece by piece.
  void pass(const WriteBytes& write) const;

 private:
  NamedTensors tensors_;  // in the file's order
  std::string head_;      // length and header
  size_t bytes_;
};

/// Writes the file whole or not at all (see write_whole). Throws BadArgument as SafetensorsImage
/// does, and on tensors without memory.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace accrue
