// Many training steps of a small network as one launch; compiled behind kernels.cu, whose functions it uses.
//
// All blocks are on the device at once (a cooperative launch) and meet at barriers between the phases of a step:
//
//   the Linear layers one after the other, each with the elementwise maps behind it | loss | backwards, layer by layer:
//   gradients of its weights and of what is below | where gradients are clipped, their norm | the optimizer
//
// Weights, gradients, optimizer state and activations lie in global memory, small enough to stay in the L2 cache.  Every
// number is computed by one block, in an order that does not depend on how many there are, and no float is added
// atomically: a second run gives the same bits, on any grid.  Without fused multiply-add like the rest, but in products.
//
// What blocks write for each other is read after a barrier, by plain loads: nothing here may be __restrict__.

#ifndef WAITING
#define WAITING  // what a thread does while it waits for other blocks
#endif

// -- a barrier for the whole grid ---------------------------------------------------------------------------------
// meeting[0] counts the blocks that are there, meeting[1] the meetings that are over; both begin at 0 and are left so
// that the next launch may use them.
__device__ __forceinline__ void meet(int* meeting) {
  __syncthreads();
  if (gridDim.x > 1 && threadIdx.x == 0) {
    volatile int* over = meeting + 1;
    int before = *over;
    __threadfence();  // what this block has written is there for those that see it arrive
    if (atomicAdd(meeting, 1) == (int)gridDim.x - 1) {
      *(volatile int*)meeting = 0;
      __threadfence();
      *over = before + 1;
    } else {
      while (*over == before) {
        WAITING;
      }
    }
    __threadfence();
  }
  __syncthreads();
}

// -- the network --------------------------------------------------------------------------------------------------
// The plan is a row of integers: a head, a record for each Linear, a record for each map.  xpnn/accel/cuda/persistent.py
// writes it by the same names.  Places are those of the flat buffers and of the scratch memory, in elements; -1 is none.
enum { LINEARS, FIRST_MAPS, BATCH, PARAMETERS, COLUMNS, KEYS, LOSS, ACCURACY, RULE, NESTEROV, DECAY, DECAYED, ROW_LOSSES,
       ROW_HITS, NORM_PARTS, HEAD };
enum { N_IN, N_OUT, WEIGHT, BIAS, INPUT, OUTPUT, SLOPE, DELTA, MAPS, MAP_COUNT, LINEAR };
enum { RECTIFY, LEAK, EXPONENTIAL, DROP, MAP = 2 };
enum { SOFTMAX, LOGISTIC, SQUARES };
enum { NO_METRIC, BY_CLASSES, BY_OUTPUTS };
enum { ADAM, DESCENT };
// And a row of numbers: of the loss and the optimizer, then two for each map.
enum { KEEP_SHARE, SPREAD, MOMENTUM, GAIN, LARGEST_NORM, NUMBERS };

struct Network {
  const int* plan;
  const float* numbers;
  float *values, *grads, *first_state, *second_state;
  const float *lr_factors, *decay_factors;
  float* scratch;
  int* meeting;
};

// The rows of one step, and its row of the table.
struct Rows {
  const float* x;
  const long long *index, *labels;  // no index: as they lie
  const float *targets, *weights, *numbers;
  const int* keys;
};

__device__ __forceinline__ long long row_of(const Rows& rows, int row) {
  return rows.index ? rows.index[row] : row;
}

// -- products -----------------------------------------------------------------------------------------------------
// An operand of a product whose sum runs over k, by its element (i, k).  It has rows of `cols` numbers, those of the data
// where `index` says; i counts them, or k if it is turned.  A turned one may have a column more, all ones: so the
// gradient of a bias is the last row of that of the weights.
struct Operand {
  const float* at;
  const long long* index;
  int cols;
};

// A block makes TILE x TILE sums, over DEPTH terms at a time, which its groups of threads share.
enum { TILE = 16, DEPTH = 256, PITCH = TILE + 2, THREADS = 256 };

struct Panels {
  float a[DEPTH * PITCH], b[DEPTH * PITCH];  // where there are fewer terms, zeros
};

__device__ __forceinline__ Panels& shared_panels() {  // the same for all products
  __shared__ Panels panels;
  return panels;
}

// TILE x DEPTH elements from (i, k) on, into registers: all are on their way before the first is needed.  Neighbours in
// memory go to neighbouring threads.  There is nothing from most_i and most_k on.
template <bool TURNED>
__device__ __forceinline__ void fetch(float* kept, const Operand& o, int i, int k, int most_i, int most_k) {
  int t = threadIdx.x, column = TURNED ? i + t % TILE : k + t, row = TURNED ? k + t / TILE : i;
  int end = column < (TURNED ? most_i : most_k) ? (TURNED ? most_k : most_i) : 0;
  bool ones = column == o.cols;
#pragma unroll
  for (int j = 0; j < TILE; j++, row += TURNED ? TILE : 1) {
    kept[j] = ones ? 1.0f : 0.0f;
    if (row < end && !ones) kept[j] = o.at[(o.index ? o.index[row] : row) * o.cols + column];
    if (row >= end) kept[j] = 0.0f;
  }
}

template <bool TURNED> __device__ __forceinline__ void store(float* panel, const float* kept) {
  int t = threadIdx.x, at = TURNED ? t / TILE * PITCH + t % TILE : t * PITCH;
#pragma unroll
  for (int j = 0; j < TILE; j++) panel[at + (TURNED ? j * TILE * PITCH : j)] = kept[j];
}

#ifndef TENSOR_FLOAT
// Four groups of 64 threads take every fourth term each; four sums a thread, of two rows and two columns.
enum { GROUPS = 4, SUMS = 4 };

__device__ __forceinline__ void accumulate(float* sum, const Panels& panels, int end) {
  int t = threadIdx.x, x = t % 8 * 2, y = t / 8 % 8 * 2;
#pragma unroll 4
  for (int k = t / 64; k < end; k += GROUPS) {
    float a0 = panels.a[k * PITCH + y], a1 = panels.a[k * PITCH + y + 1];
    float b0 = panels.b[k * PITCH + x], b1 = panels.b[k * PITCH + x + 1];
    sum[0] = fmaf(a0, b0, sum[0]), sum[1] = fmaf(a0, b1, sum[1]);
    sum[2] = fmaf(a1, b0, sum[2]), sum[3] = fmaf(a1, b1, sum[3]);
  }
}

// Where sum number j of a thread belongs, among those of all groups.
__device__ __forceinline__ int place_of(int j) {
  int t = threadIdx.x;
  return (t / 64 * TILE + t / 8 % 8 * 2 + j / 2) * TILE + t % 8 * 2 + j % 2;
}

#else
// Tensor cores: each of the eight warps takes every eighth of eight terms, rounded to TensorFloat-32, and makes all sums,
// eight a thread: of rows lane / 4 and 8 more, and of two neighbouring columns, in both halves of the tile.
enum { GROUPS = 8, SUMS = 8 };

#ifdef __CUDA_ARCH__
__device__ __forceinline__ unsigned rounded(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

__device__ __forceinline__ void eight_terms(float* sum, const float* a, const float* b) {
  int row = threadIdx.x % 32 / 4, k = threadIdx.x % 4 * PITCH;
  unsigned a0 = rounded(a[k + row]), a1 = rounded(a[k + row + 8]);
  unsigned a2 = rounded(a[k + 4 * PITCH + row]), a3 = rounded(a[k + 4 * PITCH + row + 8]);
  unsigned b0 = rounded(b[k + row]), b1 = rounded(b[k + 4 * PITCH + row]);
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#else  // the same on a host, which has no tensor cores
__device__ __forceinline__ float rounded(float x) {
  union {
    float value;
    unsigned bits;
  } of = {x};
  of.bits = (of.bits + 0x1000u) & 0xFFFFE000u;
  return of.value;
}

__device__ __forceinline__ void eight_terms(float* sum, const float* a, const float* b) {
  for (int j = 0; j < 4; j++)
    for (int k = 0; k < 8; k++)
      sum[j] += rounded(a[k * PITCH + threadIdx.x % 32 / 4 + j / 2 * 8]) *
                rounded(b[k * PITCH + threadIdx.x % 4 * 2 + j % 2]);
}
#endif

__device__ __forceinline__ void accumulate(float* sum, const Panels& panels, int end) {
  for (int k = threadIdx.x / 32 * 8; k < end; k += GROUPS * 8) {
    eight_terms(sum, panels.a + k * PITCH, panels.b + k * PITCH);
    eight_terms(sum + 4, panels.a + k * PITCH, panels.b + k * PITCH + 8);
  }
}

__device__ __forceinline__ int place_of(int j) {
  int t = threadIdx.x;
  return (t / 32 * TILE + t % 32 / 4 + j / 2 % 2 * 8) * TILE + t % 4 * 2 + j % 2 + j / 4 * 8;
}
#endif

// Calls put(m, n, sum over k of a(m, k) b(n, k)) for all m and n.  The grid's blocks take tiles in turn, beginning with
// block `first`; returns with which block the next product had better begin.
template <bool TURNED_A, bool TURNED_B, class Put>
__device__ __forceinline__ int multiply(const Operand& a, int rows, const Operand& b, int cols, int depth, int first,
                                        Put put) {
  Panels& panels = shared_panels();
  int chunks = (depth + DEPTH - 1) / DEPTH, wide = (cols + TILE - 1) / TILE, tiles = wide * ((rows + TILE - 1) / TILE);
  int t = threadIdx.x;
  int tile = -1, chunk = 0;  // in the panels; none yet
  int next = (blockIdx.x + gridDim.x - first) % gridDim.x, next_chunk = 0;
  float kept_a[TILE], kept_b[TILE], sum[SUMS] = {0.0f};
  while (tile >= 0 || next < tiles) {
    bool more = next < tiles;
    if (more) {  // what comes next is on its way while this is being summed
      fetch<TURNED_A>(kept_a, a, next / wide * TILE, next_chunk * DEPTH, rows, depth);
      fetch<TURNED_B>(kept_b, b, next % wide * TILE, next_chunk * DEPTH, cols, depth);
    }
    int end = tile < 0 ? 0 : depth - chunk * DEPTH < DEPTH ? depth - chunk * DEPTH : DEPTH;
    accumulate(sum, panels, end);
    __syncthreads();
    if (tile >= 0 && chunk == chunks - 1) {  // the sums of the groups, over the panels
      float* part = panels.a;
#pragma unroll
      for (int j = 0; j < SUMS; j++) {
        part[place_of(j)] = sum[j];
        sum[j] = 0.0f;
      }
      __syncthreads();
      int m = tile / wide * TILE + t / TILE, n = tile % wide * TILE + t % TILE;
      float total = part[t];
      for (int group = 1; group < GROUPS; group++) total += part[t + group * THREADS];
      if (m < rows && n < cols) put(m, n, total);
      __syncthreads();
    }
    tile = more ? next : -1, chunk = next_chunk;
    if (!more) continue;
    store<TURNED_A>(panels.a, kept_a);
    store<TURNED_B>(panels.b, kept_b);
    __syncthreads();
    if (++next_chunk == chunks) next += gridDim.x, next_chunk = 0;
  }
  return (first + tiles) % gridDim.x;
}

// -- elementwise maps ---------------------------------------------------------------------------------------------
// A number after `count` maps, and its slope by the number before.
struct Mapped {
  float y, slope;
};

// Element i of n in a batch; the record of a map is its kind and its column of the keys.
__device__ __forceinline__ Mapped mapped(float x, const int* map, int count, const float* numbers, const int* keys, int i,
                                         int n) {
  Mapped out = {x, 1.0f};
  for (; count; count--, map += MAP, numbers += 2) {
    float y = out.y;
    if (map[0] == RECTIFY) {
      out = {above(y), y > 0.0f ? out.slope : 0.0f};
    } else if (map[0] == LEAK) {
      float factor = y > 0.0f ? 1.0f : numbers[0];
      out = {y * factor, out.slope * factor};
    } else if (map[0] == EXPONENTIAL) {  // numbers: alpha, and the scale of both sides
      float e = expm1f(y > 0.0f ? 0.0f : y);
      out.slope *= y > 0.0f ? numbers[1] : (e + 1.0f) * numbers[0] * numbers[1];
      out.y = e * (numbers[1] * numbers[0]) + above(y) * numbers[1];
    } else {
      const int* key = keys + 3 * map[1];
      int half = (n + 1) / 2, w = i < half ? i : i - half;
      unsigned z = scrambled((w + 1u) * 0x9E3779B9u, key[0], key[1]);
      float factor = (int)(i < half ? z & 0xFFFFu : z >> 16) < key[2] ? 65536.0f / key[2] : 0.0f;
      out = {y * factor, out.slope * factor};
    }
  }
  return out;
}

// -- phases -------------------------------------------------------------------------------------------------------
__device__ __forceinline__ const int* linear(const Network& net, int l) { return net.plan + HEAD + l * LINEAR; }

// Rows of the data after the maps that come before the first Linear.
__device__ __forceinline__ void map_inputs(const Network& net, const Rows& rows) {
  const int *of = linear(net, 0), *maps = linear(net, net.plan[LINEARS]);
  int cols = of[N_IN], n = net.plan[BATCH] * cols;
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
    float x = rows.x[row_of(rows, i / cols) * cols + i % cols];
    net.scratch[of[INPUT] + i] =
        mapped(x, maps, net.plan[FIRST_MAPS], net.numbers + NUMBERS, rows.keys, i, n).y;
  }
}

__device__ __forceinline__ Operand inputs(const Network& net, const Rows& rows, const int* of) {
  if (of[INPUT] < 0) return {rows.x, rows.index, of[N_IN]};
  return {net.scratch + of[INPUT], nullptr, of[N_IN]};
}

__device__ __forceinline__ void forwards(const Network& net, const Rows& rows, int l) {
  const int *of = linear(net, l), *maps = linear(net, net.plan[LINEARS]) + MAP * of[MAPS];
  const float* numbers = net.numbers + NUMBERS + 2 * of[MAPS];
  const float* bias = of[BIAS] < 0 ? nullptr : net.values + of[BIAS];
  int batch = net.plan[BATCH], cols = of[N_OUT], n = batch * cols;
  Operand weight = {net.values + of[WEIGHT], nullptr, cols};
  multiply<false, true>(inputs(net, rows, of), batch, weight, cols, of[N_IN], 0, [&](int row, int c, float z) {
    Mapped out = mapped(bias ? z + bias[c] : z, maps, of[MAP_COUNT], numbers, rows.keys, row * cols + c, n);
    net.scratch[of[OUTPUT] + row * cols + c] = out.y;
    if (of[SLOPE] >= 0) net.scratch[of[SLOPE] + row * cols + c] = out.slope;
  });
}

// The total weight of a step's batch, one where every weight is 0: its loss is 0 then, not NaN.
__device__ __forceinline__ float mean_factor(const Rows& rows) {
  return 1.0f / (rows.numbers[0] > 0.0f ? rows.numbers[0] : 1.0f);
}

// The loss of a row over outputs that are by themselves, by a warp.
__device__ __forceinline__ float value_loss(const float* z, float* d, const float* y, int cols, int lane, float factor,
                                            bool logistic) {
  float total = 0.0f;
  for (int c = lane; c < cols; c += 32) {
    float off = z[c] - y[c];
    if (logistic) {
      float e = expf(-fabsf(z[c]));
      total += log1pf(e) + above(z[c]) - y[c] * z[c];
      d[c] = ((z[c] >= 0.0f ? 1.0f : e) / (1.0f + e) - y[c]) / cols * factor;
    } else {
      total += off * off;
      d[c] = off * (2.0f / cols) * factor;
    }
  }
  return warp_sum(total) / cols;
}

// Whether a row is right, or the share of its outputs that are, by a warp.
__device__ __forceinline__ float hit(const Network& net, const Rows& rows, const float* z, long long at, int cols,
                                     int lane) {
  if (net.plan[ACCURACY] == BY_CLASSES || rows.labels) {
    long long truth = rows.labels ? rows.labels[at] : warp_first_largest(rows.targets + at * cols, cols, lane);
    return warp_first_largest(z, cols, lane) == truth ? 1.0f : 0.0f;
  }
  float right = 0.0f;
  for (int c = lane; c < cols; c += 32) right += (z[c] > 0.0f) == (rows.targets[at * cols + c] > 0.5f) ? 1.0f : 0.0f;
  return warp_sum(right) / cols;
}

// Losses and hits of the rows, each times the row's weight, and the gradient of their mean; a warp for each row.
__device__ __forceinline__ void judge(const Network& net, const Rows& rows) {
  const int *plan = net.plan, *of = linear(net, plan[LINEARS] - 1);
  int cols = of[N_OUT], lane = threadIdx.x % 32, step = gridDim.x * (THREADS / 32);
  float scale = mean_factor(rows);
  for (int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32; row < plan[BATCH]; row += step) {
    const float* z = net.scratch + of[OUTPUT] + row * cols;
    float *d = net.scratch + of[DELTA] + row * cols, loss;
    long long at = row_of(rows, row);
    float weight = rows.weights ? rows.weights[at] : 1.0f, factor = weight * scale;
    if (plan[LOSS] == SOFTMAX) {
      Target t = {rows.labels ? nullptr : rows.targets + at * cols, rows.labels ? rows.labels[at] : 0,
                  net.numbers[KEEP_SHARE], net.numbers[SPREAD]};
      loss = class_loss<32>(z, d, t, cols, lane, factor);
    } else {
      loss = value_loss(z, d, rows.targets + at * cols, cols, lane, factor, plan[LOSS] == LOGISTIC);
    }
    float right = plan[ACCURACY] == NO_METRIC ? 0.0f : hit(net, rows, z, at, cols, lane);
    if (of[SLOPE] >= 0)
      for (int c = lane; c < cols; c += 32) d[c] *= net.scratch[of[SLOPE] + row * cols + c];
    if (lane == 0) net.scratch[plan[ROW_LOSSES] + row] = loss * weight, net.scratch[plan[ROW_HITS] + row] = right * weight;
  }
}

// What the history keeps of a step: the mean loss, and the weights of all rows and of those that are right.
__device__ __forceinline__ void tally(const Network& net, const Rows& rows, float* loss, float* sums) {
  const int* plan = net.plan;
  float lost = 0.0f, weight = 0.0f, right = 0.0f;
  for (int row = threadIdx.x; row < plan[BATCH]; row += THREADS) {
    lost += net.scratch[plan[ROW_LOSSES] + row];
    right += net.scratch[plan[ROW_HITS] + row];
    weight += rows.weights ? rows.weights[row_of(rows, row)] : 1.0f;
  }
  lost = block_total(lost);
  __syncthreads();
  weight = block_total(weight);
  __syncthreads();
  right = block_total(right);
  __syncthreads();
  if (threadIdx.x) return;
  *loss = lost * mean_factor(rows);
  if (sums) sums[0] = weight, sums[1] = right;
}

// Gradients of weight and bias of layer l, and, unless it is the first, of what the layer below has computed.
__device__ __forceinline__ void backwards(const Network& net, const Rows& rows, int l) {
  const int *of = linear(net, l), *below = linear(net, l - 1);
  int batch = net.plan[BATCH], cols = of[N_OUT], n_in = of[N_IN], first = 0;
  Operand given = {net.scratch + of[DELTA], nullptr, cols};
  if (l > 0) {
    Operand weight = {net.values + of[WEIGHT], nullptr, cols};
    first = multiply<false, false>(given, batch, weight, n_in, cols, 0, [&](int row, int c, float d) {
      int i = row * n_in + c;
      net.scratch[below[DELTA] + i] = below[SLOPE] < 0 ? d : d * net.scratch[below[SLOPE] + i];
    });
  }
  int rows_out = n_in + (of[BIAS] >= 0);
  multiply<true, true>(inputs(net, rows, of), rows_out, given, cols, batch, first, [&](int i, int c, float g) {
    net.grads[i < n_in ? of[WEIGHT] + i * cols + c : of[BIAS] + c] = g;
  });
}

// Sums of squares of PART gradients each.
enum { PART = 4096 };
__device__ __forceinline__ void square_parts(const Network& net) {
  int n = net.plan[PARAMETERS];
  for (int part = blockIdx.x; part * PART < n; part += gridDim.x) {
    float total = 0.0f;
    for (int i = part * PART + threadIdx.x; i < (part + 1) * PART && i < n; i += THREADS)
      total += net.grads[i] * net.grads[i];
    total = block_total(total);
    if (threadIdx.x == 0) net.scratch[net.plan[NORM_PARTS] + part] = total;
    __syncthreads();
  }
}

__device__ __forceinline__ float norm_of_parts(const Network& net) {
  float total = 0.0f;
  for (int part = threadIdx.x; part * PART < net.plan[PARAMETERS]; part += THREADS)
    total += net.scratch[net.plan[NORM_PARTS] + part];
  total = block_total(total);
  __syncthreads();
  return sqrtf(total);
}

// Clipping, weight decay and the rule, as `adam` and `descend` do them.
__device__ __forceinline__ void optimize(const Network& net, const Rows& rows) {
  const int* plan = net.plan;
  const float *numbers = rows.numbers + 1, *lr = net.lr_factors, *constant = net.numbers;
  bool clips = constant[LARGEST_NORM] > 0.0f, adam = plan[RULE] == ADAM;
  float factor = clips ? clip_factor(norm_of_parts(net), constant[LARGEST_NORM]) : 1.0f;
  float strength = numbers[adam ? 4 : 1];
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < plan[PARAMETERS]; i += gridDim.x * THREADS) {
    float g = clips ? net.grads[i] * factor : net.grads[i], p = net.values[i];
    if (plan[DECAY] != KEEP && i < plan[DECAYED]) p = decayed(p, &g, plan[DECAY], strength, net.decay_factors, lr, i);
    float *m = net.first_state ? net.first_state + i : nullptr, *v = net.second_state + i;
    const float* own = lr ? lr + i : nullptr;
    net.values[i] = adam ? adam_value(p, g, m, v, numbers[0], numbers[1], numbers[2], numbers[3], own)
                         : descent_value(p, g, m, constant[MOMENTUM], constant[GAIN], numbers[0], plan[NESTEROV], own);
  }
}

// `steps` steps from number `first` of an epoch on; losses, sums, numbers and keys are tables of the epoch's steps.
extern "C" __global__ void __launch_bounds__(256, 1)
    train_steps(const int* plan, const float* constants, float* values, float* grads, float* first_state,
                float* second_state, const float* lr_factors, const float* decay_factors, float* scratch, int* meeting,
                const float* x, const long long* index, const long long* labels, const float* targets,
                const float* weights, const float* numbers, const int* keys, float* losses, float* sums, int first,
                int steps) {
  Network net = {plan,       constants,     values,  grads,  first_state, second_state,
                 lr_factors, decay_factors, scratch, meeting};
  int linears = plan[LINEARS], batch = plan[BATCH], cols = linear(net, linears - 1)[N_OUT];
  for (int step = first; step < first + steps; step++) {
    long long at = (long long)step * batch, here = index ? 0 : at;
    Rows rows = {x + here * linear(net, 0)[N_IN],
                 index ? index + at : nullptr,
                 labels ? labels + here : nullptr,
                 targets ? targets + here * cols : nullptr,
                 weights ? weights + here : nullptr,
                 numbers + (long long)step * plan[COLUMNS],
                 keys + (long long)step * plan[KEYS] * 3};
    if (plan[FIRST_MAPS]) {
      map_inputs(net, rows);
      meet(meeting);
    }
    for (int l = 0; l < linears; l++) {
      forwards(net, rows, l);
      meet(meeting);
    }
    judge(net, rows);
    meet(meeting);
    if (blockIdx.x == gridDim.x - 1) tally(net, rows, losses + step, sums ? sums + 2LL * step : nullptr);
    for (int l = linears - 1; l >= 0; l--) {
      backwards(net, rows, l);
      meet(meeting);
    }
    if (constants[LARGEST_NORM] > 0.0f) {
      square_parts(net);
      meet(meeting);
    }
    optimize(net, rows);
    meet(meeting);
  }
}
