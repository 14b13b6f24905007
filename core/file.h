// Files: mapped into memory to read, written whole or not at all.
#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace accrue {

/// A file's bytes, mapped read-only. Pages are read when touched, so opening a large file is cheap.
/// The file must not be shortened by others while it is mapped.
class MappedFile {
 public:
  /// Throws Failure if the file cannot be opened or mapped, BadArgument if it is empty or no
  /// regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

/// Appends bytes to the file that is being written.
using WriteBytes = std::function<void(std::span<const std::byte>)>;

/// Writes a file whole or not at all: `fill` writes to a temporary file in the same folder, which
/// takes the place of `path` once all of it is on the disk. If anything throws, a file that was
/// there before is intact. A symbolic link keeps pointing to the file that is replaced. `late`
/// is written last, over the bytes from `at` on: for a checksum of the rest. `fill` may still set
/// these bytes, but must leave them where they are.
/// Throws Failure, naming the call, where the system refuses; BadArgument if `path` is something
/// other than a regular file.
void write_whole(const std::string& path, const std::function<void(const WriteBytes&)>& fill,
                 std::span<const std::byte> late = {}, size_t at = 0);
void write_whole(const std::string& path, std::span<const std::byte> bytes);

/// Removes the temporary files that write_whole() left in `folder` because its process was killed;
/// those of a living process stay. A folder that is not there, or not ours to change, stays as it
/// is.
void remove_leftovers(const std::string& folder);

}  // namespace accrue
