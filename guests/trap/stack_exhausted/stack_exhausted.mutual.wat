;; Two functions that call each other for ever.
(module
  (memory (export "memory") 1)
  (func $even (param i32) (result i32)
    (i32.add (i32.const 1) (call $odd (local.get 0))))
  (func $odd (param i32) (result i32)
    (i32.mul (i32.const 3) (call $even (local.get 0))))
  (func (export "_start")
    (drop (call $even (i32.const 1)))))
