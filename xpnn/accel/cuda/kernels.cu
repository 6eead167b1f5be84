// The CUDA kernels of xpnn, compiled as one module.
//
// Each is the float32 twin of operations in xpnn/ops.py or of a layer, in the same order of arithmetic; compiled
// without fused multiply-add, those without sums or transcendental functions give the portable bits (of normal numbers:
// CuPy has its kernels take subnormal ones for 0).
// There is no float atomic anywhere: equal inputs give equal bits, whatever the order of the blocks.
//
// Legend: `r` is the replica (blockIdx.y or .z), `rows` and `cols` are those of one replica, a `step` is the distance
// between two replicas in elements, 0 where all share one.  Sizes fit an int; the host looks before it launches.
// No header is included: NVRTC has none.

// A number that the step depends on.  It comes as a value, or from device memory where `name_at` is not null: then a
// captured graph reads what the host has put there for this launch.
#define NUMBER(name) const float* name##_at, int name##_step, float name##_value
#define READ(name, i) (name##_at ? name##_at[(long long)(i) * name##_step] : name##_value)

__device__ __forceinline__ float warp_sum(float x) {
  for (int o = 16; o; o >>= 1) x += __shfl_xor_sync(0xffffffffu, x, o);
  return x;  // the same bits in all lanes: each addition has the same two operands on either side
}

__device__ __forceinline__ float warp_max(float x) {
  for (int o = 16; o; o >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, o));
  return x;
}

// max(x, 0) that keeps a NaN, as the array libraries do; fmaxf would drop it.
__device__ __forceinline__ float above(float x) { return x <= 0.0f ? 0.0f : x; }

// -- rows of the data ---------------------------------------------------------------------------------------------
// Row `i` of a table of `n` rows, as CuPy reads an index: negative from the end, and around where it is too large.
__device__ __forceinline__ long long wrapped(long long i, long long n) {
  i %= n;
  return i < 0 ? i + n : i;
}

// out = x[index], `width` 4-byte words a row.  A block copies one row after the other.
extern "C" __global__ void gather_words(const int* x, const long long* index, int* out, int count, int width,
                                        long long n) {
  for (int row = blockIdx.x; row < count; row += gridDim.x) {
    const int* from = x + wrapped(index[row], n) * width;
    int* to = out + (long long)row * width;
    for (int c = threadIdx.x; c < width; c += blockDim.x) to[c] = from[c];
  }
}

// -- linear and relu ----------------------------------------------------------------------------------------------
// y = z + bias, or max(z + bias, 0), over `n` elements of each replica; y may be z.
extern "C" __global__ void add_bias(const float* z, const float* bias, int bias_step, float* y, int n, int cols,
                                    int relu) {
  int r = blockIdx.y;
  z += (long long)r * n, y += (long long)r * n, bias += bias ? (long long)r * bias_step : 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)n; i += gridDim.x * blockDim.x) {
    float x = bias ? z[i] + bias[i % (unsigned)cols] : z[i];
    y[i] = relu ? above(x) : x;
  }
}

// Blocks that sum columns have (32, TALL) threads, and each thread has DEEP rows in flight: they are all loaded before the
// first is used or stored, for a thread that waits for one row after the other does little else.
enum { TALL = 16, DEEP = 8 };

// Sums over the rows of threads of a block, which stand for one column each; threads of row 0 get them.
__device__ __forceinline__ float column_total(float x) {
  __shared__ float part[TALL][33];  // 33: no two rows of one column in the same bank
  part[threadIdx.y][threadIdx.x] = x;
  __syncthreads();
  if (threadIdx.y == 0)
    for (int k = 1; k < TALL; k++) x += part[k][threadIdx.x];
  return x;
}

// dz = dy [y > 0], and the sums of its columns over chunks of rows, one chunk for each blockIdx.y.  dz may be dy: a
// thread writes where it alone has read.  32 columns a block; replica blockIdx.z.
extern "C" __global__ void relu_backward(const float* dy, const float* y, float* dz, float* sums, int sums_step,
                                         int rows, int cols, int chunk) {
  long long r = blockIdx.z;
  int c = blockIdx.x * 32 + threadIdx.x, first = blockIdx.y * chunk;
  int end = first + chunk < rows ? first + chunk : rows;
  float total = 0.0f;
  if (c < cols)
    for (int row = first + threadIdx.y; row < end; row += TALL * DEEP) {
      long long i = (r * rows + row) * cols + c, step = (long long)TALL * cols;
      float d[DEEP], out[DEEP];
#pragma unroll
      for (int k = 0; k < DEEP; k++) {
        bool there = row + k * TALL < end;
        d[k] = there ? dy[i + k * step] : 0.0f;
        out[k] = there ? y[i + k * step] : 0.0f;
      }
#pragma unroll
      for (int k = 0; k < DEEP; k++) {
        d[k] = (out[k] > 0.0f ? 1.0f : 0.0f) * d[k];
        if (row + k * TALL < end) {
          dz[i + k * step] = d[k];
          total += d[k];
        }
      }
    }
  total = column_total(total);
  if (sums && c < cols && threadIdx.y == 0) sums[r * sums_step + (long long)blockIdx.y * cols + c] = total;
}

// The sums of columns alone.
extern "C" __global__ void column_sums(const float* x, float* sums, int sums_step, int rows, int cols, int chunk) {
  long long r = blockIdx.z;
  int c = blockIdx.x * 32 + threadIdx.x, first = blockIdx.y * chunk;
  int end = first + chunk < rows ? first + chunk : rows;
  float total = 0.0f;
  if (c < cols)
    for (int row = first + threadIdx.y; row < end; row += TALL * DEEP) {
      float d[DEEP];
#pragma unroll
      for (int k = 0; k < DEEP; k++)
        d[k] = row + k * TALL < end ? x[(r * rows + row + k * TALL) * cols + c] : 0.0f;
#pragma unroll
      for (int k = 0; k < DEEP; k++)
        if (row + k * TALL < end) total += d[k];
    }
  total = column_total(total);
  if (c < cols && threadIdx.y == 0) sums[r * sums_step + (long long)blockIdx.y * cols + c] = total;
}

// -- softmax cross-entropy ----------------------------------------------------------------------------------------
// A row's target, and the probability that it gives to class c, smoothed: t keep + spread, which is t for 1 and 0.
struct Target {
  const float* row;
  long long label;
  float keep, spread;
};

__device__ __forceinline__ float wanted(const Target& t, int c) {
  return (t.row ? t.row[c] : (c == t.label ? 1.0f : 0.0f)) * t.keep + t.spread;
}

// The first of the largest of a row, by one thread, and by a warp; a NaN counts as the largest.
__device__ __forceinline__ int first_largest(const float* x, int n) {
  int best = 0;
  for (int c = 1; c < n; c++)
    if (x[c] > x[best] || (x[c] != x[c] && x[best] == x[best])) best = c;
  return best;
}

__device__ __forceinline__ int warp_first_largest(const float* x, int n, int lane) {
  float top = x[0], at = -n, odd = -n;  // places as negative numbers, of which the warp finds the largest
  for (int c = lane; c < n; c += 32) top = fmaxf(top, x[c]);
  top = warp_max(top);
  for (int c = lane; c < n; c += 32) {
    if (x[c] == top) at = fmaxf(at, (float)-c);
    if (x[c] != x[c]) odd = fmaxf(odd, (float)-c);
  }
  at = warp_max(at), odd = warp_max(odd);
  return -odd < n ? (int)-odd : (int)-at;
}

// The loss of a row of logits, and d = (softmax - target) factor; by a warp, or by one thread for LANES = 1.  The sum over
// z t includes the zeros of t, so a logit of minus infinity makes its row's loss infinite or NaN, as in the definition.
template <int LANES>
__device__ __forceinline__ float class_loss(const float* z, float* d, const Target& t, int cols, int lane, float factor) {
  float top = z[0], total = 0.0f, picked = 0.0f;
  for (int c = lane; c < cols; c += LANES) top = fmaxf(top, z[c]);
  if (LANES > 1) top = warp_max(top);  // a NaN may be dropped here, but not from the sum
  for (int c = lane; c < cols; c += LANES) {
    float shifted = z[c] - top, e = expf(shifted);
    d[c] = e;
    total += e;
    picked += shifted * wanted(t, c);
  }
  if (LANES > 1) total = warp_sum(total), picked = warp_sum(picked);
  for (int c = lane; c < cols; c += LANES) d[c] = (d[c] / total - wanted(t, c)) * factor;
  return logf(total) - picked;
}

// One warp for each row: its loss, times the row's weight, and d = (softmax - target) scale, times the weight.  The
// target is a row of probabilities, row `row % target_rows`, or the one-hot row of a label; weights are those of row
// `row % weight_rows`.  Where `hits` is there, it gets the weight of each row that is right.
extern "C" __global__ void softmax_cross_entropy(const float* logits, const float* target, const long long* labels,
                                                 const float* weights, float* losses, float* d, float* hits, int rows,
                                                 int cols, int target_rows, int weight_rows, float keep, float spread,
                                                 NUMBER(scale)) {
  int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;  // a whole warp at once
  const float* z = logits + (long long)row * cols;
  float* out = d + (long long)row * cols;
  int t_row = row % target_rows;
  Target t = {target ? target + (long long)t_row * cols : target, labels ? labels[t_row] : 0, keep, spread};
  float weight = weights ? weights[row % weight_rows] : 1.0f;
  float factor = weights ? weight * READ(scale, 0) : READ(scale, 0);
  float loss = class_loss<32>(z, out, t, cols, lane, factor);
  if (lane == 0) losses[row] = loss * weight;
  if (!hits) return;  // all rows alike
  long long best = warp_first_largest(z, cols, lane);
  long long truth = target ? warp_first_largest(t.row, cols, lane) : t.label;
  if (lane == 0) hits[row] = best == truth ? weight : 0.0f;
}

// Sums over a block of up to 1024 threads, whole warps; all threads get them.
struct Sums {
  float loss, weight, hits;
};
__device__ __forceinline__ Sums block_sums(Sums x) {
  __shared__ float part[3][32];
  x = {warp_sum(x.loss), warp_sum(x.weight), warp_sum(x.hits)};
  int warp = threadIdx.x / 32;
  if (threadIdx.x % 32 == 0) part[0][warp] = x.loss, part[1][warp] = x.weight, part[2][warp] = x.hits;
  __syncthreads();
  Sums total = {0.0f, 0.0f, 0.0f};
  for (int k = 0; k < (int)blockDim.x / 32; k++)
    total.loss += part[0][k], total.weight += part[1][k], total.hits += part[2][k];
  return total;
}

// What a step leaves of its rows: the mean loss of replica r, and in sums[r] and sums[r + replicas] the weight of the
// rows and of those that are right.
__device__ __forceinline__ void put_sums(Sums x, float scale, float* loss, float* sums) {
  Sums total = block_sums(x);
  if (threadIdx.x) return;
  loss[blockIdx.x] = total.loss * scale;
  if (sums) sums[blockIdx.x] = total.weight, sums[blockIdx.x + gridDim.x] = total.hits;
}

// The same from the rows that `softmax_cross_entropy` has left, one block for each replica.
extern "C" __global__ void step_sums(const float* losses, const float* hits, const float* weights, float* loss,
                                     float* sums, int rows, NUMBER(scale)) {
  losses += (long long)blockIdx.x * rows, hits += hits ? (long long)blockIdx.x * rows : 0;
  Sums x = {0.0f, 0.0f, 0.0f};
  for (int row = threadIdx.x; row < rows; row += blockDim.x) {
    x.loss += losses[row];
    x.weight += weights ? weights[row] : 1.0f;
    x.hits += hits ? hits[row] : 0.0f;
  }
  put_sums(x, READ(scale, 0), loss, sums);
}

// Both at once, for few classes: a thread for each row, one block for each replica.
extern "C" __global__ void cross_entropy_step(const float* logits, const float* target, const long long* labels,
                                              const float* weights, float* d, float* loss, float* sums, int rows,
                                              int cols, int target_rows, float keep, float spread, NUMBER(scale)) {
  const float scale = READ(scale, 0);
  Sums x = {0.0f, 0.0f, 0.0f};
  for (int row = threadIdx.x; row < rows; row += blockDim.x) {
    long long at = (long long)blockIdx.x * rows + row;
    const float* z = logits + at * cols;
    float* out = d + at * cols;
    long long t_row = at % target_rows;
    Target t = {target ? target + t_row * cols : target, labels ? labels[t_row] : 0, keep, spread};
    float weight = weights ? weights[row] : 1.0f, factor = weights ? weight * scale : scale;
    x.loss += class_loss<1>(z, out, t, cols, 0, factor) * weight;
    x.weight += weight;
    if (sums && first_largest(z, cols) == (target ? (long long)first_largest(t.row, cols) : t.label))
      x.hits += weight;
  }
  put_sums(x, scale, loss, sums);
}

// -- normalization of rows ----------------------------------------------------------------------------------------
// One warp for each row; without centring the mean counts as 0.
extern "C" __global__ void normalize_rows(const float* x, float* x_hat, float* inv_std, float* mean, float* var,
                                          int rows, int cols, float eps, int center) {
  int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  x += (long long)row * cols, x_hat += (long long)row * cols;
  float mu = 0.0f, square = 0.0f;
  if (center) {
    for (int c = lane; c < cols; c += 32) mu += x[c];
    mu = warp_sum(mu) / cols;
  }
  for (int c = lane; c < cols; c += 32) square += (x[c] - mu) * (x[c] - mu);
  square = warp_sum(square) / cols;
  float inverse = 1.0f / sqrtf(square + eps);
  for (int c = lane; c < cols; c += 32) x_hat[c] = (x[c] - mu) * inverse;
  if (lane == 0) inv_std[row] = inverse, mean[row] = mu, var[row] = square;
}

extern "C" __global__ void normalize_rows_backward(const float* d_hat, const float* x_hat, const float* inv_std,
                                                   float* dx, int rows, int cols, int center) {
  int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  d_hat += (long long)row * cols, x_hat += (long long)row * cols, dx += (long long)row * cols;
  float along = 0.0f, mean = 0.0f;
  for (int c = lane; c < cols; c += 32) along += d_hat[c] * x_hat[c], mean += d_hat[c];
  along = warp_sum(along) / cols;
  mean = warp_sum(mean) / cols;  // by all lanes, whether it is wanted or not
  for (int c = lane; c < cols; c += 32) {
    float off = x_hat[c] * along;
    if (center) off += mean;
    dx[c] = (d_hat[c] - off) * inv_std[row];
  }
}

// -- dropout ------------------------------------------------------------------------------------------------------
// Keys and thresholds are numbers like NUMBER, but integers.  The bits are those of xpnn.random.keep_mask.
#define INTEGER(name) const int* name##_at, int name##_step, int name##_value

__device__ __forceinline__ unsigned scrambled(unsigned z, unsigned key_a, unsigned key_b) {
  z += key_a;
  z ^= z >> 16;
  z *= 0x7FEB352Du;
  z ^= z >> 15;
  z += key_b;
  z *= 0x846CA68Bu;
  return z ^ z >> 16;
}

// Word w of a mask of n elements makes elements w and w + ceil(n / 2).
__device__ __forceinline__ void put_kept(float* mask, int w, int n, unsigned key_a, unsigned key_b, int threshold) {
  int half = (n + 1) / 2;
  float scale = 65536.0f / threshold;
  unsigned z = scrambled((w + 1u) * 0x9E3779B9u, key_a, key_b);
  mask[w] = (int)(z & 0xFFFFu) < threshold ? scale : 0.0f;
  if (w + half < n) mask[w + half] = (int)(z >> 16) < threshold ? scale : 0.0f;
}

// One mask of n elements for each replica.
extern "C" __global__ void keep_mask(float* mask, int n, INTEGER(a), INTEGER(b), INTEGER(threshold)) {
  int r = blockIdx.y, half = (n + 1) / 2;
  const int a = READ(a, r), b = READ(b, r), threshold = READ(threshold, r);
  for (int w = blockIdx.x * blockDim.x + threadIdx.x; w < half; w += gridDim.x * blockDim.x)
    put_kept(mask + (long long)r * n, w, n, a, b, threshold);
}

// One mask of n elements for each of `count` rows, by the row's own number.
extern "C" __global__ void keep_mask_of_rows(float* mask, const int* rows, int count, int n, INTEGER(a), INTEGER(b),
                                             INTEGER(threshold)) {
  int r = blockIdx.y, half = (n + 1) / 2;
  const int a = READ(a, r), b = READ(b, r), threshold = READ(threshold, r);
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count * half; i += gridDim.x * blockDim.x) {
    int row = i / half;
    unsigned own = scrambled(rows[row] * 0x9E3779B9u, a, b);
    put_kept(mask + ((long long)r * count + row) * n, i % half, n, own, b, threshold);
  }
}

// -- the optimizer's side -----------------------------------------------------------------------------------------
// The sum over a block of 256 threads; all threads get it.
__device__ __forceinline__ float block_total(float x) {
  __shared__ float part[8];
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0.0f;
  for (int k = 0; k < 8; k++) total += part[k];
  return total;
}

// Sums of squares of a replica's gradients, one for each block of a fixed grid.
extern "C" __global__ void square_sums(const float* g, float* part, int n) {
  g += (long long)blockIdx.y * n;
  float total = 0.0f;
  for (unsigned i = blockIdx.x * 256 + threadIdx.x; i < (unsigned)n; i += gridDim.x * 256) total += g[i] * g[i];
  total = block_total(total);
  if (threadIdx.x == 0) part[blockIdx.y * gridDim.x + blockIdx.x] = total;
}

// The root of the sum of a replica's `count` parts.
extern "C" __global__ void root_of_sum(const float* part, float* norm, int count) {
  float total = 0.0f;
  for (int i = threadIdx.x; i < count; i += 256) total += part[blockIdx.x * count + i];
  total = block_total(total);
  if (threadIdx.x == 0) norm[blockIdx.x] = sqrtf(total);
}

__device__ __forceinline__ float clip_factor(float norm, float max_norm) {
  float factor = max_norm / (norm + 1e-6f);
  return factor > 1.0f ? 1.0f : factor;  // a NaN stays
}

extern "C" __global__ void clip_norm(float* g, const float* norm, int norm_step, float max_norm, int n) {
  g += (long long)blockIdx.y * n;
  float factor = clip_factor(norm[blockIdx.y * norm_step], max_norm);
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)n; i += gridDim.x * blockDim.x)
    g[i] *= factor;
}

// Weight decay, on the first n_decay parameters: SHRINK p *= s; REACH p *= 1 - s f l; COUPLED g += p s f, with f the
// parameter's own decay factor and l its learning-rate factor, 1 where there are none.
enum { KEEP, SHRINK, REACH, COUPLED };

#define DECAY_ARGUMENTS int decay, int n_decay, const float* decay_factors, NUMBER(strength)
#define CLIP_ARGUMENTS const float* norm, int norm_step, float max_norm

__device__ __forceinline__ float decayed(float p, float* g, int decay, float s, const float* f, const float* l,
                                         unsigned i) {
  if (decay == SHRINK) return p * s;
  float factor = f ? f[i] * s : s;
  if (decay == REACH) return p * (1.0f - (l ? factor * l[i] : factor));
  float pull = p * s;
  *g += f ? pull * f[i] : pull;
  return p;
}

// Adam with scaled moments, M = m / (1 - beta1) and V = v / (1 - beta2); see Ops.adam.  One parameter: its value after
// decay, its gradient and its learning-rate factor.
__device__ __forceinline__ float adam_value(float p, float g, float* m, float* v, float beta1, float beta2, float eps,
                                            float rate, const float* lr_factor) {
  float mean = *m * beta1 + g, square = *v * beta2 + g * g;
  *m = mean, *v = square;
  float move = mean / (sqrtf(square) + eps) * rate;
  return p - (lr_factor ? move * *lr_factor : move);
}

extern "C" __global__ void adam(float* values, const float* grads, float* m, float* v, const float* lr_factors, int n,
                                NUMBER(beta1), NUMBER(beta2), NUMBER(eps), NUMBER(rate), DECAY_ARGUMENTS,
                                CLIP_ARGUMENTS) {
  int r = blockIdx.y;
  long long offset = (long long)r * n;
  values += offset, grads += offset, m += offset, v += offset;
  const float beta1 = READ(beta1, r), beta2 = READ(beta2, r), eps = READ(eps, r), rate = READ(rate, r);
  const float strength = READ(strength, r), factor = norm ? clip_factor(norm[r * norm_step], max_norm) : 1.0f;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)n; i += gridDim.x * blockDim.x) {
    float g = norm ? grads[i] * factor : grads[i], p = values[i];
    if (decay != KEEP && i < (unsigned)n_decay)
      p = decayed(p, &g, decay, strength, decay_factors, lr_factors, i);
    values[i] = adam_value(p, g, m + i, v + i, beta1, beta2, eps, rate, lr_factors ? lr_factors + i : nullptr);
  }
}

// Descent with momentum: v = momentum v + gain g, then p -= lr v, or lr (momentum v + g) for Nesterov's; without a
// velocity p -= lr g.
__device__ __forceinline__ float descent_value(float p, float g, float* velocity, float momentum, float gain, float lr,
                                               int nesterov, const float* lr_factor) {
  float move = g;
  if (velocity) {
    move = *velocity * momentum + g * gain;
    *velocity = move;
    if (nesterov) move = move * momentum + g;
  }
  move *= lr;
  return p - (lr_factor ? move * *lr_factor : move);
}

extern "C" __global__ void descend(float* values, const float* grads, float* velocity, const float* lr_factors, int n,
                                   NUMBER(momentum), NUMBER(gain), NUMBER(lr), int nesterov, DECAY_ARGUMENTS,
                                   CLIP_ARGUMENTS) {
  int r = blockIdx.y;
  long long offset = (long long)r * n;
  values += offset, grads += offset, velocity += velocity ? offset : 0;
  const float momentum = READ(momentum, r), gain = READ(gain, r), lr = READ(lr, r);
  const float strength = READ(strength, r), factor = norm ? clip_factor(norm[r * norm_step], max_norm) : 1.0f;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)n; i += gridDim.x * blockDim.x) {
    float g = norm ? grads[i] * factor : grads[i], p = values[i];
    if (decay != KEEP && i < (unsigned)n_decay)
      p = decayed(p, &g, decay, strength, decay_factors, lr_factors, i);
    values[i] = descent_value(p, g, velocity ? velocity + i : nullptr, momentum, gain, lr, nesterov,
                              lr_factors ? lr_factors + i : nullptr);
  }
}
