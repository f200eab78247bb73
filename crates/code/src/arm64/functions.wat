;; What the decoder is tested on: cranelift.txt and winch.txt are the code that Wasmtime 48.0.8 makes of these functions for
;; aarch64-unknown-linux-gnu, in a configuration that is otherwise the default, as `objdump -d` shows it.
(module
  (memory 1)
  (table 4 funcref)
  (type $unary (func (param i32) (result i32)))
  (global $stop (mut i32) (i32.const 0))

  (func $sum (export "sum") (param $at i32) (param $end i32) (result i32) (local $all i32)
    loop $next
      ;; As the rewriting polls.
      global.get $stop
      if
        unreachable
      end
      (local.set $all (i32.add (local.get $all) (i32.load (local.get $at))))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (local.get $end)))
    end
    local.get $all)

  (func $select (export "select") (param $what i32) (result i32)
    block
      block
        block
          block
            block
              (br_table 0 1 2 3 4 (local.get $what))
            end
            (return (i32.const 10))
          end
          (return (i32.const 21))
        end
        (return (i32.const 32))
      end
      (return (i32.const 43))
    end
    i32.const 54)

  (func $divide (export "divide") (param i32 i32) (result i32)
    (i32.div_s (local.get 0) (local.get 1)))

  (func $indirect (export "indirect") (param i32) (result i32)
    (call_indirect (type $unary) (local.get 0) (local.get 0)))

  (func $floats (export "floats") (param f64 f64) (result f64)
    (f64.add (f64.mul (local.get 0) (local.get 1)) (f64.sqrt (local.get 0))))

  (func $test_twice (export "test_twice") (param i32 i32) (result i32) (local i32)
    (local.set 2 (i32.eqz (i32.lt_s (local.get 0) (local.get 1))))
    (if (result i32) (local.get 2)
      (then (i32.const 1))
      (else (i32.add (local.get 2) (i32.const 7)))))

  (func $store (export "store") (param i32 i64 v128)
    (i64.store offset=8 (local.get 0) (local.get 1))
    (v128.store (local.get 0) (i8x16.add (local.get 2) (i8x16.splat (i32.wrap_i64 (local.get 1)))))))
