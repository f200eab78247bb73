;; i64.trunc_f64_u of inf, which i64 cannot hold.
(module
  (memory (export "memory") 1)
  (global $x (mut f64) (f64.const inf))
  (func (export "_start")
    (drop (i64.trunc_f64_u (global.get $x)))))
