;; i64.trunc_f64_u of NaN.
(module
  (memory (export "memory") 1)
  (global $nan (mut f64) (f64.const nan))
  (func (export "_start")
    (drop (i64.trunc_f64_u (global.get $nan)))))
