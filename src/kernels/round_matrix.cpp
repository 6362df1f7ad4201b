#include "rwkvx/kernels/round_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "rwkvx/base/threads.h"
#include "rwkvx/kernels/round_rows.h"
#include "rwkvx/kernels/team.h"

namespace rwkvx {
namespace {

// Rows that are looked at to find what is usual in a column.
constexpr std::int64_t kSampledRows = 2048;
// Column scales are within this factor of the middle one, so that products stay floats.
constexpr float kWidestScale = 0x1p60f;
// A weight this many times the usual one of its row is rounded by a step that is 0.25 (int4) and
// 0.03 (int8) of the usual weight in the root mean square, three times what normally distributed
// weights lose: it stays wide.
constexpr double kWideInt4 = 7, kWideInt8 = 13;
// At most one weight of this many stays wide: a wide one takes eight bytes.
constexpr std::int64_t kWideShare = 256;

struct Weights {
  const float* values;
  std::int64_t rows, columns;
  const float* row(std::int64_t r) const { return values + r * columns; }
};

// A list of sizes as middle_size() takes it.
std::vector<double> list_of(std::int64_t count) {
  return std::vector<double>(static_cast<std::size_t>(room_of_sizes(count)));
}
// The standard deviation that normally distributed weights of the same median would have; zeros do
// not count.
double usual(double* sizes, std::int64_t count) { return 1.4826 * middle_size(sizes, count); }

// What is usual in every step-th row when column c is divided by `columns[c]`.
std::vector<double> usual_of_rows(const Weights& w, std::int64_t step,
                                  const std::vector<double>& columns) {
  const std::int64_t count = (w.rows + step - 1) / step;
  std::vector<double> found(static_cast<std::size_t>(count));
  run_in_pieces(team_threads(), count, 1, [&](std::int64_t first, std::int64_t last) {
    auto sizes = list_of(w.columns);
    for (std::int64_t i = first; i < last; ++i) {
      divided_sizes(w.row(i * step), columns.data(), w.columns, sizes.data());
      found[static_cast<std::size_t>(i)] = usual(sizes.data(), w.columns);
    }
  });
  return found;
}

// The root of the mean square of sizes, those far above `scale`, the first guess, cut; zeros do not
// count.
double mean_near(const double* sizes, std::int64_t count, double scale) {
  double sum = 0;
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (sizes[i] == 0) continue;
    const double share = std::min(sizes[i] / scale, 4.0);
    sum += share * share;
    ++found;
  }
  return (found > 0 ? std::sqrt(sum / static_cast<double>(found)) : 1) * scale;
}

// Calls run(c, sizes) for each column, with its weights of every step-th row divided by the usual
// size of the row.
template <class Run>
void for_each_column(const Weights& w, std::int64_t step, const std::vector<double>& of_rows,
                     const Run& run) {
  constexpr std::int64_t kTogether = 16;  // of a cache line
  const auto count = static_cast<std::int64_t>(of_rows.size()), room = room_of_sizes(count);
  run_in_pieces(team_threads(), w.columns, kTogether, [&](std::int64_t first, std::int64_t last) {
    auto sizes = list_of(kTogether * room);
    for (std::int64_t c = first; c < last; c += kTogether) {
      const std::int64_t some = std::min(kTogether, last - c);
      for (std::int64_t i = 0; i < count; ++i) {
        const float* from = w.row(i * step) + c;
        const double of_row = of_rows[static_cast<std::size_t>(i)];
        double* to = sizes.data() + i;
        for (std::int64_t k = 0; k < some; ++k, to += room)
          *to = of_row == 0 ? 0 : std::abs(static_cast<double>(from[k])) / of_row;
      }
      for (std::int64_t k = 0; k < some; ++k) run(c + k, sizes.data() + k * room);
    }
  });
}

// The scale of each column. Medians, so that neither single weights nor rows and columns that are
// large as a whole move those of the others; then means of squares, which are less noisy, of what
// is not far from them.
std::vector<float> find_column_scales(const Weights& w) {
  const std::int64_t step = std::max<std::int64_t>(1, w.rows / kSampledRows);
  auto scales = list_of(w.columns);
  std::ranges::fill(scales, 1);
  for (const bool mean : {false, true}) {
    const auto of_rows = usual_of_rows(w, step, scales);
    const auto count = static_cast<std::int64_t>(of_rows.size());
    for_each_column(w, step, of_rows, [&](std::int64_t c, double* sizes) {
      auto& scale = scales[static_cast<std::size_t>(c)];
      const double found = mean ? mean_near(sizes, count, scale) : usual(sizes, count);
      scale = found > 0 ? found : 1;
    });
  }
  const double middle = middle_size(scales.data(), w.columns);
  std::vector<float> out;
  for (std::int64_t c = 0; c < w.columns; ++c)
    out.push_back(std::clamp(static_cast<float>(scales[static_cast<std::size_t>(c)] / middle),
                             1 / kWidestScale, kWidestScale));
  return out;
}

// The size from which a weight of each row stays wide.
std::vector<double> find_wide_sizes(const Weights& w, const std::vector<float>& column_scales,
                                    double times) {
  const std::vector<double> scales(column_scales.begin(), column_scales.end());
  std::vector<double> of_rows(static_cast<std::size_t>(w.rows));
  // Of the weights of each row that might be wide, how many times the usual one.
  std::vector<std::vector<double>> shares(of_rows.size());
  run_in_pieces(team_threads(), w.rows, 1, [&](std::int64_t first, std::int64_t last) {
    auto sizes = list_of(w.columns);
    for (std::int64_t row = first; row < last; ++row) {
      divided_sizes(w.row(row), scales.data(), w.columns, sizes.data());
      const double of_row = usual(sizes.data(), w.columns);
      of_rows[static_cast<std::size_t>(row)] = of_row;
      for (const double size : sizes)
        if (size > times * of_row) shares[static_cast<std::size_t>(row)].push_back(size / of_row);
    }
  });
  std::vector<double> all;
  for (const auto& some : shares) all.insert(all.end(), some.begin(), some.end());
  const auto most = static_cast<std::size_t>(w.rows * w.columns / kWideShare);
  if (all.size() > most) {
    const auto last = all.begin() + static_cast<std::ptrdiff_t>(most);
    std::nth_element(all.begin(), last, all.end(), std::greater<>());
    times = *last * (1 + 1e-6);  // what is divided later is rounded to float32
  }
  for (double& size : of_rows) size *= times;
  return of_rows;
}

// Weights of one row that stay floats.
struct WideOfRow {
  std::vector<std::int32_t> columns;
  std::vector<float> values;
};

// What rounding a matrix's rows needs and gives.
struct Rounding {
  const Weights& w;
  std::vector<double> wide_sizes;  // of integers
  RoundedMatrix& out;
  std::vector<WideOfRow> wide;
  std::vector<RowError> errors;

  void round(std::int64_t first, std::int64_t last) {
    const auto N = static_cast<std::size_t>(w.columns);
    std::vector<float> back(N), divided(N);
    for (std::int64_t row = first; row < last; ++row) {
      const float* from = w.row(row);
      if (!wide_sizes.empty()) {
        divide(row, divided);
        from = divided.data();
      }
      write(row, from);
      unpack_rows(out.view, row, row + 1, back.data());
      errors[static_cast<std::size_t>(row)] = row_error(back.data(), from, w.columns);
    }
  }

 private:
  // Without what stays wide.
  void divide(std::int64_t row, std::vector<float>& divided) {
    const auto at = static_cast<std::size_t>(row);
    const float* from = w.row(row);
    for (std::size_t c = 0; c < divided.size(); ++c) {
      divided[c] = from[c] / out.column_scales[c];
      if (!(std::abs(static_cast<double>(divided[c])) > wide_sizes[at])) continue;
      wide[at].columns.push_back(static_cast<std::int32_t>(c));
      wide[at].values.push_back(from[c]);
      divided[c] = 0;
    }
  }
  void write(std::int64_t row, const float* from) {
    std::byte* to = out.values.data() + row * out.view.row_bytes();
    std::byte* scale = out.scales.data() + row * out.view.row_scale_bytes();
    switch (out.view.type) {
      case WeightType::kF32:
        std::memcpy(to, from, static_cast<std::size_t>(4 * w.columns));
        break;
      case WeightType::kBF16:
        for (std::int64_t i = 0; i < w.columns; ++i)
          reinterpret_cast<std::uint16_t*>(to)[i] = float_to_bf16(from[i]);
        break;
      case WeightType::kInt8:
        round_int8_row(from, w.columns, reinterpret_cast<std::int8_t*>(to),
                       reinterpret_cast<float*>(scale));
        break;
      case WeightType::kInt4:
        round_int4_row(from, w.columns, reinterpret_cast<std::uint8_t*>(to),
                       reinterpret_cast<std::uint16_t*>(scale));
        break;
    }
  }
};

}  // namespace

RoundedMatrix round_matrix(const float* values, std::int64_t rows, std::int64_t columns,
                           WeightType type) {
  const Weights w{values, rows, columns};
  RoundedMatrix out;
  out.view = {type, rows, columns, nullptr, nullptr};
  out.values.resize(static_cast<std::size_t>(rows * out.view.row_bytes()));
  out.scales.resize(static_cast<std::size_t>(rows * out.view.row_scale_bytes()));
  out.view.values = out.values.data();
  out.view.scales = out.scales.data();
  Rounding rounding{.w = w,
                    .wide_sizes = {},
                    .out = out,
                    .wide = std::vector<WideOfRow>(static_cast<std::size_t>(rows)),
                    .errors = std::vector<RowError>(static_cast<std::size_t>(rows))};
  const bool integer = type == WeightType::kInt8 || type == WeightType::kInt4;
  if (integer) {
    out.column_scales = find_column_scales(w);
    rounding.wide_sizes =
        find_wide_sizes(w, out.column_scales, type == WeightType::kInt4 ? kWideInt4 : kWideInt8);
    out.outlier_columns =
        std::ranges::count_if(out.column_scales, [](float s) { return s > 4 || s < 0.25f; });
  }
  run_in_pieces(team_threads(), rows, 1,
                [&](std::int64_t first, std::int64_t last) { rounding.round(first, last); });

  double wrong = 0;
  std::int64_t filled = 0;
  for (const auto& error : rounding.errors)
    if (error.all > 0) wrong += error.away / error.all, ++filled;
  out.relative_error = filled > 0 ? std::sqrt(wrong / static_cast<double>(filled)) : 0;
  if (!integer) return out;
  out.view.column_scales = out.column_scales.data();
  out.wide_first.push_back(0);
  for (const auto& row : rounding.wide) {
    out.wide_columns.insert(out.wide_columns.end(), row.columns.begin(), row.columns.end());
    out.wide_values.insert(out.wide_values.end(), row.values.begin(), row.values.end());
    out.wide_first.push_back(static_cast<std::int32_t>(out.wide_columns.size()));
  }
  if (!out.wide_columns.empty())
    out.view.wide = {out.wide_first.data(), out.wide_columns.data(), out.wide_values.data()};
  return out;
}

}  // namespace rwkvx
