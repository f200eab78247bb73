;; i32.trunc_f32_u of -1, which i32 cannot hold.
(module
  (memory (export "memory") 1)
  (global $x (mut f32) (f32.const -1))
  (func (export "_start")
    (drop (i32.trunc_f32_u (global.get $x)))))
