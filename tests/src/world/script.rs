//! The scripts of the world's records, and the diff between two of them. They are for reading: no node runs them.

const SCRIPT: &str = r#"# A small GPT over bytes. Everything that `tune` names may be varied.
width = tune("width", 192, [128, 192, 256, 384])
heads = tune("heads", 6, [4, 6, 8])
layers = tune("layers", 4, [2, 3, 4, 6])
rate = tune("learning_rate", 3e-3, [1e-3, 2e-3, 3e-3, 6e-3])

def block(x, i):
    """Attention and an MLP, each on a normed residual stream."""
    h = rms_norm(x, name = "norm_a%d" % i)
    x = x + attention(h, heads = heads, causal = True, rotary = 10000.0, name = "attn%d" % i)
    h = rms_norm(x, name = "norm_m%d" % i)
    h = linear(h, 4 * width, name = "up%d" % i)
    return x + linear(gelu(h), width, name = "down%d" % i)

def forward(tokens):
    x = embedding(tokens, vocabulary = 256, width = width)
    for i in range(layers):
        x = block(x, i)
    return linear(rms_norm(x, name = "last"), 256, name = "logits")

model(
    forward = forward,
    context = 256,
    batch = 32,
    optimizer = adamw(rate, beta1 = 0.9, beta2 = 0.95, decay = 0.1),
    schedule = cosine(warmup = 40),
)
"#;

/// A diff of three changed lines.
pub const DIFF: &str = r#"--- parent/train.star
+++ train.star
@@ -1,8 +1,8 @@
 # A small GPT over bytes. Everything that `tune` names may be varied.
 width = tune("width", 192, [128, 192, 256, 384])
 heads = tune("heads", 6, [4, 6, 8])
-layers = tune("layers", 6, [2, 3, 4, 6])
-rate = tune("learning_rate", 2e-3, [1e-3, 2e-3, 3e-3, 6e-3])
+layers = tune("layers", 4, [2, 3, 4, 6])
+rate = tune("learning_rate", 3e-3, [1e-3, 2e-3, 3e-3, 6e-3])
 
 def block(x, i):
     """Attention and an MLP, each on a normed residual stream."""
@@ -12,7 +12,7 @@
     h = rms_norm(x, name = "norm_m%d" % i)
     h = linear(h, 4 * width, name = "up%d" % i)
-    return x + linear(relu(h), width, name = "down%d" % i)
+    return x + linear(gelu(h), width, name = "down%d" % i)
 
 def forward(tokens):
     x = embedding(tokens, vocabulary = 256, width = width)
"#;

/// The script with this number: the same model with another first line.
pub fn text(number: usize) -> Vec<u8> {
    format!("# Variant {number}\n{SCRIPT}").into_bytes()
}
