// What a file is, by its first bytes and by its name.
#pragma once

#include <string>
#include <string_view>

namespace rwkvx {

// The first bytes that file_kind() looks at.
inline constexpr std::size_t kKindBytes = 1024;

// The kind of file that begins with these bytes: "a gzip file", "a Parquet file", "a Git LFS
// pointer, not the file itself". Empty for what may be text.
std::string file_kind(std::string_view beginning);

// The kind of binary file that a name's ending stands for: "a Parquet file" for "a.parquet". Empty
// where the name does not tell.
std::string kind_by_name(std::string_view name);

inline constexpr char kGzipKind[] = "a gzip file", kZstdKind[] = "a zstd file",
                      kSafetensorsKind[] = "a safetensors file", kNpyKind[] = "a NumPy array";

// The first bytes of a file, at most `count`; fewer where it is shorter. Throws FileError.
std::string first_bytes(const std::string& path, std::size_t count = kKindBytes);

}  // namespace rwkvx
