;; i64.trunc_f32_s of 0x1p63, which i64 cannot hold.
(module
  (memory (export "memory") 1)
  (global $x (mut f32) (f32.const 0x1p63))
  (func (export "_start")
    (drop (i64.trunc_f32_s (global.get $x)))))
