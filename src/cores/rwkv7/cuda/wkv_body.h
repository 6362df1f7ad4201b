// WKV of RWKV-7 and its adjoint for the threads of one block: one head of one sequence, or some
// rows of its state. Four threads share a row and add up their parts of its sums. The adjoint holds
// its matrix twice, by rows and by columns, so that no sum goes over more than those four threads.
//
// The backward pass does not store the states within a stretch but undoes steps: S_{t-1} = (S_t - v
// k^T - sa b^T) / d with sa = S z from the forward pass. With d at its least, 0.545, 16 steps back
// lose three digits (errors of 1e-4 in the gradients, 60 times what the tests allow), 8 steps one
// (2e-6). So states are kept every 16 steps, and the one 8 steps on is taken forward from there,
// which needs no sums as sa is known.
#pragma once

#include <type_traits>

#include "rwkvx/ops/cuda/lanes.h"

namespace rwkvx::cuda {

constexpr int kWkv7KeptEvery = 16;  // steps between the states that the forward pass keeps
constexpr int kWkv7Stretch = 8;     // steps whose vectors lie in shared memory; and are undone
constexpr int kWkv7Parts = 4;       // threads of a row
constexpr int kWkv7Rows = 16;       // rows of a block, forward

RWKVX_HOST_DEVICE std::int64_t wkv7_kept_states(std::int64_t T) {
  return (T + kWkv7KeptEvery - 1) / kWkv7KeptEvery;
}
// Head sizes that there are kernels for.
constexpr bool wkv7_takes(std::int64_t N) { return N == 16 || N == 32 || N == 64 || N == 128; }
constexpr int kWkv7ForwardThreads = kWkv7Rows * kWkv7Parts;
template <int N>
constexpr int kWkv7BackwardThreads = N* kWkv7Parts;
RWKVX_HOST_DEVICE std::int64_t wkv7_forward_blocks(std::int64_t B, std::int64_t H, std::int64_t N) {
  return B * H * (N / kWkv7Rows);
}

// Arrays are contiguous; S = wkv7_kept_states(T). States are [value][key].
template <class Value>
struct Wkv7ForwardCall {
  std::int64_t B, T, H, N;
  const Value* r;  // (B, T, H, N), as are the next ones
  const float* d;  // decay factor of one step
  const Value* k;
  const Value* v;
  const Value* z;         // -kappa
  const Value* b;         // kappa a
  const float* state_in;  // (B, H, N, N), or null: zeros
  float* state_out;       // (B, H, N, N)
  Value* y;               // (B, T, H, N)
  float* kept;            // (B, H, S, N, N) <- the state at the start of each 16 steps, or null
  float* sa;              // (B, T, H, N) <- S z, or null where kept is
};

// Gradients are assigned, not added, and may take the places of what they are gradients of. d must
// be at least about 0.5, as that of RWKV-7 is.
template <class Value>
struct Wkv7BackwardCall {
  std::int64_t B, T, H, N;
  const Value* r;
  const float* d;
  const Value* k;
  const Value* v;
  const Value* z;
  const Value* b;
  const float* kept;  // what the forward pass kept
  const float* sa;
  const float* state_out;
  const Value* grad_y;          // (B, T, H, N)
  const float* grad_state_out;  // (B, H, N, N) or null
  Value* grad_r;                // (B, T, H, N), as are the next ones
  float* grad_d;
  Value* grad_k;
  Value* grad_v;
  Value* grad_z;
  Value* grad_b;
  float* grad_state_in;  // (B, H, N, N) or null
};

// What each thread does is written between the places where all of a block's threads meet.
// `Threads` says who they are, a block (ops/cuda/lanes.h) with
//   Each<Type>        a variable of each thread; each.of(thread)
//   add_parts(each)   each number <- the sum of those of the kWkv7Parts adjacent threads
template <int kThreads>
struct EmulatedThreads : EmulatedBlock<kThreads> {
  template <class Type>
  struct Each {
    Type all[kThreads];
    RWKVX_HOST_DEVICE Type& of(int thread) { return all[thread]; }
  };
  RWKVX_HOST_DEVICE void add_parts(Each<float>& each) const {
    for (int first = 0; first < kThreads; first += kWkv7Parts) {
      const float* x = each.all + first;  // in the order in which a warp adds
      const float sum = (x[0] + x[2]) + (x[1] + x[3]);
      for (int part = 0; part < kWkv7Parts; ++part) each.all[first + part] = sum;
    }
  }
};

// A thread's part of a row or a column.
template <int N>
struct Wkv7Cells {
  static constexpr int kCount = N / kWkv7Parts;
  float at[kCount];
};
// Where cell c of a thread lies in its row or column: four neighbors at a time, beside those of the
// other threads.
RWKVX_HOST_DEVICE int wkv7_place(int thread, int c) {
  return c / 4 * (4 * kWkv7Parts) + thread % kWkv7Parts * 4 + c % 4;
}

// The vectors of a stretch of steps.
template <int N>
struct alignas(16) Wkv7ForwardShared {
  float r[kWkv7Stretch][N], d[kWkv7Stretch][N], k[kWkv7Stretch][N], v[kWkv7Stretch][N],
      z[kWkv7Stretch][N], b[kWkv7Stretch][N];
};
template <int N>
struct alignas(16) Wkv7BackwardShared {
  Wkv7ForwardShared<N> in;
  float grad_y[kWkv7Stretch][N], sa[kWkv7Stretch][N];
  float dsa[2][N];  // of even and odd steps: a thread may be one meeting ahead of another
};

// One thread's share of copying the vectors of `steps` steps, the first of which is at `start`.
template <int N, int kThreads, class Call>
RWKVX_HOST_DEVICE void wkv7_stage(const Call& call, std::int64_t start, int steps, int thread,
                                  Wkv7ForwardShared<N>& to) {
  for (int e = thread; e < steps * N; e += kThreads) {
    const int t = e / N, j = e % N;
    const std::int64_t i = start + t * call.H * N + j;
    to.r[t][j] = load(call.r, i);
    to.d[t][j] = load(call.d, i);
    to.k[t][j] = load(call.k, i);
    to.v[t][j] = load(call.v, i);
    to.z[t][j] = load(call.z, i);
    to.b[t][j] = load(call.b, i);
  }
}

RWKVX_HOST_DEVICE int wkv7_steps(std::int64_t begin, std::int64_t T) {
  return static_cast<int>(T - begin < kWkv7Stretch ? T - begin : kWkv7Stretch);
}

// Block `block` of wkv7_forward_blocks().
template <int N, class Value, class Threads>
RWKVX_HOST_DEVICE void wkv7_forward_block(const Wkv7ForwardCall<Value>& call, std::int64_t block,
                                          const Threads& threads, Wkv7ForwardShared<N>& shared) {
  using Cells = Wkv7Cells<N>;
  constexpr int kGroups = N / kWkv7Rows;
  const std::int64_t head = block / kGroups, T = call.T, stride = call.H * N;
  const int first = static_cast<int>(block % kGroups) * kWkv7Rows;
  const std::int64_t start = head / call.H * T * stride + head % call.H * N;
  const auto row_of = [&](int thread) { return first + thread / kWkv7Parts; };
  typename Threads::template Each<Cells> state;
  typename Threads::template Each<float> sa, y;
  const auto store_state = [&](int thread, float* matrix) {
    for (int c = 0; c < Cells::kCount; ++c)
      matrix[row_of(thread) * N + wkv7_place(thread, c)] = state.of(thread).at[c];
  };
  threads.run([&](int thread) {
    const float* row =
        call.state_in == nullptr ? nullptr : call.state_in + (head * N + row_of(thread)) * N;
    for (int c = 0; c < Cells::kCount; ++c)
      state.of(thread).at[c] = row == nullptr ? 0.0f : row[wkv7_place(thread, c)];
  });
  for (std::int64_t begin = 0; begin < T; begin += kWkv7Stretch) {
    const int steps = wkv7_steps(begin, T);
    threads.meet();  // nobody reads the stretch before any more
    threads.run([&](int thread) {
      wkv7_stage<N, kWkv7ForwardThreads>(call, start + begin * stride, steps, thread, shared);
      if (call.kept != nullptr && begin % kWkv7KeptEvery == 0)
        store_state(thread,
                    call.kept + (head * wkv7_kept_states(T) + begin / kWkv7KeptEvery) * N * N);
    });
    threads.meet();
    for (int t = 0; t < steps; ++t) {
      threads.run([&](int thread) {
        float sum = 0.0f;
        for (int c = 0; c < Cells::kCount; ++c)
          sum = fmaf(state.of(thread).at[c], shared.z[t][wkv7_place(thread, c)], sum);
        sa.of(thread) = sum;
      });
      threads.add_parts(sa);
      threads.run([&](int thread) {
        const float removed = sa.of(thread), v = shared.v[t][row_of(thread)];
        float sum = 0.0f;
        for (int c = 0; c < Cells::kCount; ++c) {
          const int j = wkv7_place(thread, c);
          float& s = state.of(thread).at[c];
          s = fmaf(removed, shared.b[t][j], fmaf(s, shared.d[t][j], v * shared.k[t][j]));
          sum = fmaf(s, shared.r[t][j], sum);
        }
        y.of(thread) = sum;
      });
      threads.add_parts(y);
      threads.run([&](int thread) {
        if (thread % kWkv7Parts != 0) return;
        const std::int64_t i = start + (begin + t) * stride + row_of(thread);
        store(call.y, i, y.of(thread));
        if (call.kept != nullptr) store(call.sa, i, sa.of(thread));
      });
    }
  }
  threads.run([&](int thread) { store_state(thread, call.state_out + head * N * N); });
}

// Block `head` of B H.
template <int N, class Value, class Threads>
RWKVX_HOST_DEVICE void wkv7_backward_block(const Wkv7BackwardCall<Value>& call, std::int64_t head,
                                           const Threads& threads, Wkv7BackwardShared<N>& shared) {
  using Cells = Wkv7Cells<N>;
  using Numbers = typename Threads::template Each<float>;
  const std::int64_t T = call.T, stride = call.H * N, cells = static_cast<std::int64_t>(N) * N;
  const std::int64_t start = head / call.H * T * stride + head % call.H * N;
  // Thread by thread: part of a row of the adjoint, of the same column, and of that of the state.
  typename Threads::template Each<Cells> by_row, by_column, state;
  Numbers dsa, dv, dr, dd, dk, dz, db;
  const auto& in = shared.in;
  threads.run([&](int thread) {
    const int line = thread / kWkv7Parts;
    const float* matrix =
        call.grad_state_out == nullptr ? nullptr : call.grad_state_out + head * cells;
    for (int c = 0; c < Cells::kCount; ++c) {
      const int at = wkv7_place(thread, c);
      by_row.of(thread).at[c] = matrix == nullptr ? 0.0f : matrix[line * N + at];
      by_column.of(thread).at[c] = matrix == nullptr ? 0.0f : matrix[at * N + line];
    }
  });
  for (std::int64_t begin = (T - 1) / kWkv7Stretch * kWkv7Stretch; begin >= 0;
       begin -= kWkv7Stretch) {
    const int steps = wkv7_steps(begin, T);
    threads.meet();  // nobody reads the stretch after this one any more
    threads.run([&](int thread) {
      wkv7_stage<N, kWkv7BackwardThreads<N>>(call, start + begin * stride, steps, thread,
                                             shared.in);
      for (int e = thread; e < steps * N; e += kWkv7BackwardThreads<N>) {
        const std::int64_t i = start + (begin + e / N) * stride + e % N;
        shared.grad_y[e / N][e % N] = load(call.grad_y, i);
        shared.sa[e / N][e % N] = load(call.sa, i);
      }
    });
    threads.meet();
    // The state after the stretch.
    const std::int64_t end = begin + steps;
    const bool forward = end < T && end % kWkv7KeptEvery != 0;
    const float* matrix =
        end == T ? call.state_out + head * cells
                 : call.kept + (head * wkv7_kept_states(T) + end / kWkv7KeptEvery) * cells;
    threads.run([&](int thread) {
      const int j = thread / kWkv7Parts;
      for (int c = 0; c < Cells::kCount; ++c)
        state.of(thread).at[c] = matrix[wkv7_place(thread, c) * N + j];
      for (int t = 0; forward && t < steps; ++t) {
        const float d = in.d[t][j], b = in.b[t][j], k = in.k[t][j];
        for (int c = 0; c < Cells::kCount; ++c) {
          const int i = wkv7_place(thread, c);
          float& s = state.of(thread).at[c];
          s = fmaf(shared.sa[t][i], b, fmaf(s, d, in.v[t][i] * k));
        }
      }
    });
    for (int t = steps - 1; t >= 0; --t) {
      threads.run([&](int thread) {
        {  // a row
          const float dy = shared.grad_y[t][thread / kWkv7Parts];
          float along_b = 0.0f, along_k = 0.0f;
          for (int c = 0; c < Cells::kCount; ++c) {
            const int j = wkv7_place(thread, c);
            float& g = by_row.of(thread).at[c];
            g = fmaf(dy, in.r[t][j], g);
            along_b = fmaf(g, in.b[t][j], along_b);
            along_k = fmaf(g, in.k[t][j], along_k);
          }
          dsa.of(thread) = along_b;
          dv.of(thread) = along_k;
        }
        // A column: the state before the step, and the sums over values.
        const int j = thread / kWkv7Parts;
        const float r = in.r[t][j], k = in.k[t][j], b = in.b[t][j];
        const float inverse = 1.0f / in.d[t][j];
        float r_sum = 0.0f, d_sum = 0.0f, k_sum = 0.0f, b_sum = 0.0f;
        for (int c = 0; c < Cells::kCount; ++c) {
          const int i = wkv7_place(thread, c);
          const float dy = shared.grad_y[t][i], v = in.v[t][i], sa = shared.sa[t][i];
          float& g = by_column.of(thread).at[c];
          float& s = state.of(thread).at[c];
          g = fmaf(dy, r, g);
          r_sum = fmaf(s, dy, r_sum);
          k_sum = fmaf(g, v, k_sum);
          b_sum = fmaf(g, sa, b_sum);
          s = fmaf(-sa, b, fmaf(-v, k, s)) * inverse;
          d_sum = fmaf(g, s, d_sum);
        }
        dr.of(thread) = r_sum;
        dd.of(thread) = d_sum;
        dk.of(thread) = k_sum;
        db.of(thread) = b_sum;
      });
      threads.add_parts(dsa);
      threads.add_parts(dv);
      threads.add_parts(dr);
      threads.add_parts(dd);
      threads.add_parts(dk);
      threads.add_parts(db);
      threads.run([&](int thread) {
        if (thread % kWkv7Parts != 0) return;
        const int line = thread / kWkv7Parts;
        const std::int64_t i = start + (begin + t) * stride + line;
        shared.dsa[t % 2][line] = dsa.of(thread);
        store(call.grad_v, i, dv.of(thread));
        store(call.grad_r, i, dr.of(thread));
        store(call.grad_d, i, dd.of(thread));
        store(call.grad_k, i, dk.of(thread));
        store(call.grad_b, i, db.of(thread));
      });
      threads.meet();
      threads.run([&](int thread) {
        const int line = thread / kWkv7Parts;
        const float* all = shared.dsa[t % 2];
        const float own = all[line], d = in.d[t][line], z = in.z[t][line];
        float sum = 0.0f;
        for (int c = 0; c < Cells::kCount; ++c) {
          const int at = wkv7_place(thread, c);
          float& row = by_row.of(thread).at[c];
          row = fmaf(row, in.d[t][at], own * in.z[t][at]);
          float& column = by_column.of(thread).at[c];
          column = fmaf(column, d, all[at] * z);
          sum = fmaf(state.of(thread).at[c], all[at], sum);
        }
        dz.of(thread) = sum;
      });
      threads.add_parts(dz);
      threads.run([&](int thread) {
        if (thread % kWkv7Parts == 0)
          store(call.grad_z, start + (begin + t) * stride + thread / kWkv7Parts, dz.of(thread));
      });
    }
  }
  if (call.grad_state_in == nullptr) return;
  threads.run([&](int thread) {
    float* row = call.grad_state_in + (head * N + thread / kWkv7Parts) * N;
    for (int c = 0; c < Cells::kCount; ++c) row[wkv7_place(thread, c)] = by_row.of(thread).at[c];
  });
}

// Calls use(N) with a constant N for a size that wkv7_takes().
template <class Use>
void with_size(std::int64_t N, const Use& use) {
  if (N == 16) use(std::integral_constant<int, 16>());
  if (N == 32) use(std::integral_constant<int, 32>());
  if (N == 64) use(std::integral_constant<int, 64>());
  if (N == 128) use(std::integral_constant<int, 128>());
}

}  // namespace rwkvx::cuda
